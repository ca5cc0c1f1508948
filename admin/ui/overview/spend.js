// Costs of today, this month and all time.

import { h } from "../dom.js";
import { amount, compact, count, plural } from "../format.js";
import { tag } from "../parts.js";

/** @param {any} current */
export function spendFigures(current) {
  const one = (/** @type {string} */ name, /** @type {any} */ cost) => h("div", { class: "figure", data: { spend: name.toLowerCase() } },
    h("dt", null, name),
    h("dd", { class: "amount" }, amount(cost)),
    h("dd", { class: "hint" }, plural(cost.requests, "request"), " · ", compact(cost.input_tokens + cost.output_tokens), " tokens"),
    h("dd", null, caveats(cost)));
  return h("dl", { class: "spend" }, one("Today", current.today), one("Month", current.month), one("Total", current.total));
}

/**
 * Returns the caveats of an amount: requests without a price, with estimated usage, and with an inexact cost.
 * @param {any} cost
 */
export function caveats(cost) {
  return h("span", { class: "row" },
    cost.unpriced_requests > 0 && tag(`${count(cost.unpriced_requests)} without price`, "warn"),
    cost.estimated_requests > 0 && tag(`${count(cost.estimated_requests)} estimated`),
    cost.inexact_requests > 0 && tag(`${count(cost.inexact_requests)} inexact`));
}
