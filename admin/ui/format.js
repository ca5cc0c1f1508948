// How numbers, times and amounts look.

import { h } from "./dom.js";
import { amountParts, isZero } from "./exact.js";

const whole = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** @param {number} value */
export const count = (value) => whole.format(value);

/**
 * A count that may be rounded; the exact one is its title.
 * @param {number} value
 */
export const compact = (value) =>
  value < 10_000 ? h("span", null, count(value)) : h("span", { title: count(value) }, short.format(value));

/**
 * Milliseconds, or a dash.
 * @param {number | null | undefined} ms
 */
export function millis(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/**
 * A share of a whole.
 * @param {number} part
 * @param {number} all
 */
export function percent(part, all) {
  if (!all) return "–";
  const share = (100 * part) / all;
  return share === 0 || share >= 10 ? `${Math.round(share)} %` : `${share < 0.1 ? "< 0.1" : share.toFixed(1)} %`;
}

/**
 * An amount of US dollars with all its digits; null is one that isn't known.
 * @param {string | null} amount
 */
export function usd(amount) {
  if (amount === null) return h("span", { class: "tag warn", title: "Something of it has no price" }, "no price");
  const { groups, cents, rest } = amountParts(amount);
  return h("span", { class: "usd", data: { amount } },
    h("span", { class: "sign", "aria-hidden": "true" }, "$"),
    h("span", { class: "digits" },
      groups.map((group) => h("span", { class: "group" }, group)), cents, rest && h("span", { class: "faint" }, rest)));
}

/**
 * What a cost object says it cost. Where nothing of it has a price that isn't 0.
 * @param {any} cost
 */
export const amount = (cost) => usd(cost.requests > 0 && cost.unpriced_requests === cost.requests && isZero(cost.cost_usd) ? null : cost.cost_usd);

/**
 * So many of something.
 * @param {number} value
 * @param {string} noun
 */
export const many = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

/**
 * A day of the API, as people say it.
 * @param {string} date
 */
export const dayName = (date) => day.format(new Date(`${date}T00:00:00Z`));

/**
 * A moment in this place's time; its title has the UTC time.
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
 * How long ago something was. It goes on counting: see `tick.js`.
 * @param {string | number | null} time
 */
export function ago(time) {
  if (!time) return "never";
  const at = new Date(time);
  return h("time", { datetime: at.toISOString(), title: at.toLocaleString("en-GB"), data: { since: at.getTime() } }, "");
}

/**
 * How long it is until something happens; it counts down.
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
