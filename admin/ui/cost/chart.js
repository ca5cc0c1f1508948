// Bar chart of the cost by day. Heights are rounded, labels are exact.

import { fill, h, svg } from "../dom.js";
import { roughly } from "../exact.js";
import { amount, count, dayName, plural } from "../format.js";

const HEIGHT = 170;
const WIDTH = 900;

/**
 * @param {any[]} items with `day`; days without cost may be missing
 * @param {import("./range.js").Range} range
 */
export function chart(items, range) {
  const days = everyDay(items, range);
  const top = Math.max(...days.map((one) => roughly(one.cost_usd)), 1e-12);
  const step = WIDTH / days.length;
  const label = h("p", { class: "chart-label", "aria-live": "off" });
  const describe = (/** @type {any} */ one) => fill(label, h("strong", null, dayName(one.day)), " ", amount(one), ` · ${plural(one.requests, "request")}`,
    one.unpriced_requests > 0 && ` · ${count(one.unpriced_requests)} without price`, one.estimated_requests > 0 && ` · ${count(one.estimated_requests)} estimated`,
    one.inexact_requests > 0 && ` · ${count(one.inexact_requests)} inexact`);
  const bars = days.map((one, at) => {
    const height = (roughly(one.cost_usd) / top) * (HEIGHT - 12);
    const wide = Math.min(Math.max(step * 0.72, 1), 46);
    const x = at * step + (step - wide) / 2;
    return svg("g", { class: "day", onpointerenter: () => describe(one) },
      svg("rect", { class: "reach", x: at * step, y: 0, width: step, height: HEIGHT }),
      svg("rect", { class: "amount", x, y: HEIGHT - Math.max(height, one.requests ? 2 : 0), width: wide, height: Math.max(height, one.requests ? 2 : 0), rx: Math.min(3, wide / 3) }),
      // Requests without a price add no height, so a mark shows that the bar is too low.
      one.unpriced_requests > 0 && svg("rect", { class: "unpriced", x, y: 0, width: wide, height: 5, rx: 2 }));
  });
  describe(days.reduce((most, one) => (roughly(one.cost_usd) > roughly(most.cost_usd) ? one : most), days[days.length - 1]));
  const doubtful = days.some((one) => one.unpriced_requests > 0);
  return h("div", { class: "chart" }, label,
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `Cost by day, ${days[0].day} to ${days[days.length - 1].day}. The table below lists the amounts.` },
    svg("path", { class: "base", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }), bars),
    h("div", { class: "axis", "aria-hidden": "true" }, marks(days).map((one) => h("span", null, dayName(one.day)))),
    doubtful && h("p", { class: "hint" }, h("span", { class: "key unpriced" }), " days with requests that have no price and are not included in the bar"));
}

/** @param {any[]} days */
function marks(days) {
  if (days.length < 4) return days;
  const every = (days.length - 1) / 3;
  return [0, 1, 2, 3].map((at) => days[Math.round(at * every)]);
}

/**
 * Returns every day of the range, days without cost included.
 * @param {any[]} items
 * @param {import("./range.js").Range} range
 */
function everyDay(items, range) {
  const found = new Map(items.map((one) => [one.day, one]));
  const sorted = [...found.keys()].sort();
  const days = [];
  const last = Date.parse(range.to ?? sorted[sorted.length - 1]);
  for (let at = Date.parse(range.from ?? sorted[0]); at <= last; at += 86_400_000) {
    const day = new Date(at).toISOString().slice(0, 10);
    days.push(found.get(day) ?? { day, requests: 0, cost_usd: "0", unpriced_requests: 0, estimated_requests: 0, inexact_requests: 0 });
  }
  return days;
}
