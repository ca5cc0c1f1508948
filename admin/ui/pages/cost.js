// Costs by day, model, provider and user, with the exact digits of the API.

import { read, readAll, session, may, withQuery } from "../api.js";
import { chart } from "../cost/chart.js";
import { csvButton } from "../cost/csv.js";
import { RANGES, rangeOf } from "../cost/range.js";
import { field, select } from "../dialog.js";
import { fill, h } from "../dom.js";
import { roughly } from "../exact.js";
import { amount, compact, count, plural } from "../format.js";
import { card, empty, whenLoaded, failure, heading, loading, table } from "../parts.js";
import { caveats } from "../overview/spend.js";

const GROUPS = /** @type {[string, string][]} */ ([["end_user", "End user"], ["owner", "Owner"], ["key", "Key"]]);

/** Rows of the table of users; browsers are slow with many thousands. */
const MOST_USERS = 500;

/** @param {import("../main.js").View} view */
export async function cost({ root, query, signal }) {
  const today = new Date().toISOString().slice(0, 10);
  const range = rangeOf(query, today);
  const group = GROUPS.some(([name]) => name === query.get("group")) ? String(query.get("group")) : "end_user";
  const go = (/** @type {any} */ changed) => {
    location.hash = withQuery("/cost", { range: range.name, from: range.name ? "" : range.from, to: range.name ? "" : range.to, group, ...changed });
  };
  const from = h("input", { type: "date", value: range.from ?? "", max: today, onchange: () => go({ range: "", from: from.value, to: to.value || today }) });
  const to = h("input", { type: "date", value: range.to ?? today, max: today, onchange: () => go({ range: "", from: from.value, to: to.value }) });
  const picker = h("div", { class: "filters" },
    field("Period", select({ onchange: (/** @type {any} */ event) => go({ range: event.target.value || "month", from: "", to: "" }) }, [...RANGES, ["", "Custom range"]], range.name)),
    field("From (UTC)", from), field("To (inclusive)", to));
  const bounds = { from: range.from, to: range.to };
  const [all, summary, daily] = [h("div"), h("div", null, loading()), h("div", null, loading())];
  fill(root,
    heading("Cost", may("viewer") ? "All replicas. Days are in UTC." : `Costs of ${session.me?.owner ?? session.me?.name}. Days are in UTC.`),
    h("section", { class: "card", "aria-label": "Period" }, picker), all, daily, summary, byUser(bounds, group, go, signal));
  const load = async () => {
    fill(daily, failureOr(await settled(read(withQuery("/api/v1/cost/daily", { ...bounds, from: bounds.from ?? "2020-01-01" }), signal)), (found) => days(found, range)));
    const found = await settled(read(withQuery("/api/v1/cost/summary", bounds), signal));
    fill(all, "value" in found && totalCard(found.value.total, range.label));
    fill(summary, failureOr(found, sums));
  };
  await load();

  /** @param {Promise<any>} coming */
  async function settled(coming) {
    return coming.then((value) => ({ value }), (error) => ({ error }));
  }
  /**
   * @param {{ value?: any, error?: any }} found
   * @param {(value: any) => any} draw
   */
  function failureOr(found, draw) {
    if (found.error && signal.aborted) return null;
    return found.error ? failure(found.error, load) : draw(found.value);
  }
}

/**
 * @param {any} found
 * @param {import("../cost/range.js").Range} range
 */
function days(found, range) {
  if (found.items.length === 0) return card("By day", empty("No costs in this period."));
  return card("By day", h("div", { class: "stack" }, chart(found.items, range),
    h("details", null, h("summary", null, "Show as table"), costTable("Cost by day", [{ name: "Day", cell: (one) => h("time", { datetime: one.day }, one.day) }], [...found.items].reverse()))),
    { aside: csvButton("by-day", ["day"], found.items) });
}

/**
 * @param {any} total
 * @param {string} label
 */
function totalCard(total, label) {
  return card(label, h("div", { class: "stack" },
    h("p", { class: "large", data: { total: "cost" } }, amount(total)),
    h("p", { class: "hint" }, plural(total.requests, "request"), " · ", compact(total.input_tokens), " input tokens (", compact(total.cached_input_tokens), " cached) · ", compact(total.output_tokens), " output tokens"),
    total.unpriced_requests > 0 && h("p", { class: "warning" }, h("span", null, h("strong", null, `${plural(total.unpriced_requests, "request")} not included: `), "the model has no price. Add one to the prices file or to the provider.")),
    total.estimated_requests > 0 && h("p", { class: "hint" }, `${plural(total.estimated_requests, "request")} with estimated usage: the provider reported none, or the answer was interrupted.`),
    total.inexact_requests > 0 && h("p", { class: "hint" }, `${plural(total.inexact_requests, "request")} whose cost isn't exact: each request says why.`)));
}

/** @param {any} found */
function sums(found) {
  const { total } = found;
  const largest = (/** @type {any[]} */ items) => [...items].sort((one, other) => roughly(other.cost_usd) - roughly(one.cost_usd));
  const share = (/** @type {any} */ one) => h("span", { class: "bar", "aria-hidden": "true" },
    h("span", { style: { width: `${(100 * roughly(one.cost_usd)) / (roughly(total.cost_usd) || 1)}%` } }));
  return h("div", { class: "stack wide" },
    card("By model", costTable("Cost by model", [{ name: "Model", cell: (one) => h("span", null, h("span", { class: "hint" }, one.provider, " / "), one.model, share(one)) }], largest(found.by_model)), { aside: csvButton("by-model", ["provider", "model"], found.by_model) }),
    card("By provider", costTable("Cost by provider", [{ name: "Provider", cell: (one) => h("span", null, one.provider, share(one)) }], largest(found.by_provider)), { aside: csvButton("by-provider", ["provider"], found.by_provider) }));
}

/**
 * @param {any} bounds
 * @param {string} group
 * @param {(changed: any) => void} go
 * @param {AbortSignal} signal
 */
function byUser(bounds, group, go, signal) {
  const chosen = GROUPS.find(([name]) => name === group)?.[1] ?? "";
  const pick = select({ "aria-label": "Group by", class: "small", onchange: (/** @type {any} */ event) => go({ group: event.target.value }) }, GROUPS.map(([value, name]) => [value, `By ${name.toLowerCase()}`]), group);
  const aside = h("span", { class: "row" }, pick);
  const all = readAll("/api/v1/cost/by-user", signal, { parameters: { ...bounds, group }, limit: 10_000, most: 200_000 });
  const content = all.then(({ items, more }) => {
    aside.append(csvButton(`by-${group}`, ["user"], items));
    const rows = [...items].sort((one, other) => roughly(other.cost_usd) - roughly(one.cost_usd)).slice(0, MOST_USERS);
    const rest = items.length > rows.length && h("p", { class: "hint" },
      `The ${rows.length} with the highest cost of ${more ? "the first " : ""}${count(items.length)}. The CSV file has all of these.`);
    return [costTable(`Cost by ${chosen}`, [{ name: chosen, cell: (one) => one.user || h("span", { class: "hint" }, "not specified") }], rows), rest];
  });
  return card("By user", whenLoaded(content, signal), { aside });
}

/**
 * @param {string} caption
 * @param {import("../parts.js").Column[]} first
 * @param {any[]} rows
 */
export function costTable(caption, first, rows) {
  if (rows.length === 0) return empty("No costs in this period.");
  return table(caption, [...first,
    { name: "Requests", number: true, cell: (one) => compact(one.requests) },
    { name: "Input", number: true, cell: (one) => compact(one.input_tokens) },
    { name: "Output", number: true, cell: (one) => compact(one.output_tokens) },
    { name: "Caveats", cell: (one) => (one.unpriced_requests || one.estimated_requests || one.inexact_requests ? caveats(one) : null) },
    { name: "Cost", number: true, cell: amount },
  ], rows);
}

