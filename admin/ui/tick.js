// Lets every time on the page go on: elements made by `ago` and `until`.

import { routerTime } from "./api.js";
import { span } from "./format.js";

/** Writes the times that are on the page now. */
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
  // What was just drawn shall not stand empty until the next tick.
  new MutationObserver(tick).observe(document.body, { childList: true, subtree: true });
}
