// Keeps relative times on the page current: elements made by `ago` and `until`.

import { routerTime } from "./api.js";
import { span } from "./format.js";

/** Updates every relative time on the page. */
export function tick() {
  const now = routerTime();
  for (const element of document.querySelectorAll("[data-since], [data-until]")) {
    if (!(element instanceof HTMLElement)) continue;
    const { since, until } = element.dataset;
    const text = since ? `${span(now - Number(since))} ago` : span(Number(until) - now);
    if (element.textContent !== text) element.textContent = text;
  }
}

export function startTicking() {
  setInterval(tick, 500);
  // Newly drawn times must not stay empty until the next tick.
  new MutationObserver(tick).observe(document.body, { childList: true, subtree: true });
}
