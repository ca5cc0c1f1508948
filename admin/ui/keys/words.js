// Texts for limits and budgets of keys.

import { usd } from "../format.js";

const NAMES = /** @type {[string, string][]} */ ([["rpm", "requests/min"], ["tpm", "tokens/min"], ["concurrency", "concurrent"]]);

/** @param {any} limits */
export function limitsText(limits) {
  const set = NAMES.filter(([name]) => limits?.[name] != null);
  return set.length === 0 ? "–" : set.map(([name, words]) => `${Number(limits[name]).toLocaleString("en-US")} ${words}`).join(", ");
}

/** @param {any} budget */
export const budgetText = (budget) => (budget ? [usd(budget.usd), budget.period === "total" ? " in total" : ` per ${budget.period}`] : "–");
