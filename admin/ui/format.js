// Formats numbers, times and amounts.

import { h } from "./dom.js";
import { amountParts, isZero } from "./exact.js";

const whole = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** @param {number} value */
export const count = (value) => whole.format(value);

/**
 * Formats a count, rounded if large; the tooltip has the exact one.
 * @param {number} value
 */
export const compact = (value) =>
  value < 10_000 ? h("span", null, count(value)) : h("span", { title: count(value) }, short.format(value));

/**
 * Formats a duration in milliseconds; a dash without one.
 * @param {number | null | undefined} ms
 */
export function millis(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/**
 * Formats a share of a whole.
 * @param {number} part
 * @param {number} all
 */
export function percent(part, all) {
  if (!all) return "–";
  const share = (100 * part) / all;
  return share === 0 || share >= 10 ? `${Math.round(share)} %` : `${share < 0.1 ? "< 0.1" : share.toFixed(1)} %`;
}

/**
 * Formats an amount of US dollars with all its digits; null is an unknown amount.
 * @param {string | null} amount
 */
export function usd(amount) {
  if (amount === null) return h("span", { class: "tag warn", title: "The model has no price" }, "no price");
  const { groups, cents, rest } = amountParts(amount);
  return h("span", { class: "usd", data: { amount } },
    h("span", { class: "sign", "aria-hidden": "true" }, "$"),
    h("span", { class: "digits" },
      groups.map((group) => h("span", { class: "group" }, group)), cents, rest && h("span", { class: "faint" }, rest)));
}

/**
 * Formats the amount of a cost object. Without any price the amount is unknown, not 0.
 * @param {any} cost
 */
export const amount = (cost) => usd(cost.requests > 0 && cost.unpriced_requests === cost.requests && isZero(cost.cost_usd) ? null : cost.cost_usd);

/**
 * Formats a count with its noun.
 * @param {number} value
 * @param {string} noun
 */
export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

/**
 * Formats a day of the API.
 * @param {string} date
 */
export const dayName = (date) => day.format(new Date(`${date}T00:00:00Z`));

/**
 * Formats a time in the local time zone; the tooltip has the UTC time.
 * @param {string | null} time
 */
export function moment(time) {
  if (!time) return "–";
  const at = new Date(time);
  const today = new Date().toDateString() === at.toDateString();
  const clock = at.toLocaleTimeString("en-GB");
  const text = today ? clock : `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${clock}`;
  return h("time", { datetime: time, title: at.toISOString() }, text);
}

/**
 * Formats the time since a moment. `tick.js` keeps it current.
 * @param {string | number | null} time
 */
export function ago(time) {
  if (!time) return "never";
  const at = new Date(time);
  return h("time", { datetime: at.toISOString(), title: at.toLocaleString("en-GB"), data: { since: at.getTime() } }, "");
}

/**
 * Formats the time until a moment. `tick.js` counts it down.
 * @param {string} time
 */
export function until(time) {
  return h("span", { class: "countdown", data: { until: new Date(time).getTime() } }, "");
}

/** @param {number} ms */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days`;
}
