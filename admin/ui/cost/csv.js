// CSV files of costs, with the exact digits of the API.

import { h } from "../dom.js";

const FIELDS = ["requests", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_usd", "unpriced_requests", "estimated_requests", "inexact_requests"];

/**
 * @param {string[]} names
 * @param {any[]} items
 */
export function csv(names, items) {
  const fields = [...names, ...FIELDS];
  const lines = [fields, ...items.map((one) => fields.map((field) => one[field]))];
  return lines.map((line) => line.map(quoteCell).join(",")).join("\r\n") + "\r\n";
}

/**
 * Quotes a value (RFC 4180). A text that a spreadsheet would read as a formula gets an apostrophe.
 * @param {any} value
 */
function quoteCell(value) {
  let text = String(value ?? "");
  if (/^[=+\-@\t\r]/.test(text) && !/^-?\d/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * @param {string} what
 * @param {string[]} names the columns before the amounts
 * @param {any[]} items
 */
export function csvButton(what, names, items) {
  const save = () => {
    const address = URL.createObjectURL(new Blob([csv(names, items)], { type: "text/csv" }));
    h("a", { href: address, download: `llm-router-cost-${what}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  };
  return h("button", { class: "plain", type: "button", onclick: save, "aria-label": `Download CSV of cost ${what.replaceAll("-", " ").replaceAll("_", " ")}` }, "Download CSV");
}
