// Keeps what is on a page fresh, and stops while nobody sees it.

import { connection, Refusal, Silence } from "./api.js";

/** @typedef {import("./main.js").View} View */

/**
 * Asks now, then every so many seconds while the page is shown. What fails is told to `failed`; what
 * gets no answer leaves the page as it is, which then says that it is old.
 * @param {View} view
 * @param {number} seconds
 * @param {() => Promise<void>} work
 * @param {(error: Error) => void} failed
 * @returns {() => Promise<void>} asks at once
 */
export function poll(view, seconds, work, failed) {
  let timer = 0;
  let running = false;
  const again = async () => {
    clearTimeout(timer);
    if (running || view.signal.aborted) return;
    running = true;
    try {
      await work();
    } catch (error) {
      if (view.signal.aborted) return;
      if (error instanceof Refusal) failed(error);
      else if (!(error instanceof Silence)) throw error;
      else if (connection.heardAt === null) failed(error);
    } finally {
      running = false;
      if (!view.signal.aborted && !document.hidden) timer = setTimeout(again, seconds * 1000);
    }
  };
  const shown = () => {
    if (document.hidden) clearTimeout(timer);
    else again();
  };
  document.addEventListener("visibilitychange", shown, { signal: view.signal });
  view.signal.addEventListener("abort", () => clearTimeout(timer));
  again();
  return again;
}
