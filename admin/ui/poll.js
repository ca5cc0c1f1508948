// Refreshes the data of a page, and pauses while the tab is hidden.

import { connection, ApiError, NetworkError } from "./api.js";

/** @typedef {import("./main.js").View} View */

/**
 * Runs `work` now and every few seconds while the page is visible. Errors of the API go to `failed`;
 * without an answer the page stays as it is, and the frame warns that it is outdated.
 * @param {View} view
 * @param {number} seconds
 * @param {() => Promise<void>} work
 * @param {(error: Error) => void} failed
 * @returns {() => Promise<void>} runs it at once
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
      if (error instanceof ApiError) failed(error);
      else if (!(error instanceof NetworkError)) throw error;
      else if (connection.lastAnswerAt === null) failed(error);
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
