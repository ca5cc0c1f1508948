// What a key may use, in words.

import { usd } from "../format.js";

const NAMES = /** @type {[string, string][]} */ ([["rpm", "requests/min"], ["tpm", "tokens/min"], ["concurrency", "at a time"]]);

/** @param {any} limits */
export function limitsText(limits) {
  const set = NAMES.filter(([name]) => limits?.[name] != null);
  return set.length === 0 ? "–" : set.map(([name, words]) => `${Number(limits[name]).toLocaleString("en-US")} ${words}`).join(", ");
}

/** @param {any} budget */
export const budgetText = (budget) => (budget ? [usd(budget.usd), ` a ${budget.period}`.replace(" a total", " in all")] : "–");
