// The list of recent requests with its filters.

import { may, read, withQuery } from "../api.js";
import { field } from "../dialog.js";
import { fill, h } from "../dom.js";
import { compact, millis, moment, usd } from "../format.js";
import { action, empty, failure, heading, loading, statusTag, table, tag } from "../parts.js";
import { oneRequest } from "../requests/one.js";

/** @type {[string, string, import("../dom.js").Props][]} */
const FILTERS = [
  ["from", "From", { placeholder: "date or time, e.g. 2026-11-24" }], ["to", "To (inclusive)", { placeholder: "date or time, e.g. 2026-11-24" }],
  ["provider", "Provider", {}], ["model", "Deployment's model", {}], ["rule", "Rule", {}],
  ["status", "Status", { inputmode: "numeric", pattern: "[1-5][0-9]{2}", placeholder: "e.g. 503" }],
  ["refused_by", "Refused by", { placeholder: "e.g. budget" }], ["key", "Key", {}], ["owner", "Owner", {}], ["user", "End user", {}],
  ["min_cost_usd", "Minimum cost (USD)", { inputmode: "decimal" }], ["min_latency_ms", "Minimum latency (ms)", { inputmode: "numeric" }],
];
/** Filters for viewers only: users see only their own owner or key. */
const OTHERS = ["key", "owner"];

/** @param {import("../main.js").View} view */
export async function requests(view) {
  const { root, path, query, signal } = view;
  if (path[0]) return oneRequest(view, path[0]);
  const filters = FILTERS.filter(([name]) => may("viewer") || !OTHERS.includes(name));
  const asked = Object.fromEntries(filters.map(([name]) => [name, query.get(name) ?? ""]));
  const set = Object.values(asked).filter(Boolean).length;
  const inputs = filters.map(([name, label, props]) => field(label, h("input", { name, value: asked[name], autocomplete: "off", spellcheck: "false", ...props })));
  const onSubmit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    location.hash = withQuery("/requests", Object.fromEntries([...form].map(([name, value]) => [name, String(value).trim()])));
  };
  const more = h("details", { open: set > 0 }, h("summary", null, set ? `${set} ${set === 1 ? "filter" : "filters"} active` : "Filters"),
    h("form", { class: "stack", onsubmit: onSubmit }, h("div", { class: "filters" }, inputs),
      h("div", { class: "row" }, h("button", { class: "main", type: "submit" }, "Apply"), set > 0 && h("a", { class: "button", href: "#/requests" }, "Clear filters"))));
  const byId = h("input", { "aria-label": "Request ID", placeholder: "x-request-id", name: "id", autocomplete: "off", spellcheck: "false" });
  const find = h("form", { class: "row find", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    if (byId.value.trim()) location.hash = `/requests/${encodeURIComponent(byId.value.trim())}`;
  } }, byId, h("button", { type: "submit" }, "Find"));
  const list = h("div", { class: "stack" }, loading());
  fill(root, heading("Requests", "Newest first, with the latest that this replica refused. Messages are not stored.", find),
    h("section", { class: "card", "aria-label": "Filters" }, more), h("section", { class: "card", "aria-label": "Requests" }, list));
  await load();

  async function load() {
    fill(list, loading());
    /** @type {any[]} */
    const items = [];
    const next = async (/** @type {string | null} */ cursor) => {
      const page = await read(withQuery("/api/v1/requests", { ...asked, limit: 50, cursor }), signal);
      items.push(...page.items);
      draw(page.next_cursor);
    };
    const draw = (/** @type {string | null} */ cursor) => fill(list,
      items.length === 0 ? empty(set ? "No requests match these filters." : "No requests yet.", set ? null : "Requests appear here shortly after they finish.") : requestsTable(items),
      h("div", { class: "row" }, action("Refresh", load, { data: { focus: "again" } }), cursor && action("Show 50 more", () => next(cursor), { data: { focus: "more" } }),
        items.length > 0 && h("span", { class: "hint" }, `${items.length} shown`)));
    try {
      await next(null);
    } catch (error) {
      if (!signal.aborted) fill(list, failure(error, load));
    }
  }
}

/** @param {any[]} items */
function requestsTable(items) {
  return table("Requests", [
    { name: "Time", cell: (one) => h("a", { href: `#/requests/${encodeURIComponent(one.id)}`, title: one.id }, moment(one.time)) },
    { name: "Status", cell: (one) => h("span", { class: "row tight" }, statusTag(one.status), !one.complete && one.status < 400 && tag("incomplete", "bad"), one.attempts.length > 1 && tag(`${one.attempts.length} attempts`), one.refused_by && tag(one.refused_by, "warn")) },
    { name: "Requested model and route", cell: (one) => h("span", null, one.model_asked ?? "–", h("span", { class: "second" }, one.provider ? [one.provider, " / ", one.model] : "no deployment", one.rule && [" via rule ", one.rule])) },
    { name: "Key and user", cell: (one) => h("span", null, one.key ?? "–", one.user && one.user !== one.owner && h("span", { class: "second" }, one.user)) },
    { name: "Latency", number: true, cell: (one) => millis(one.latency_ms) },
    { name: "Tokens", number: true, cell: (one) => h("span", null, compact(one.usage.input_tokens), " → ", compact(one.usage.output_tokens)) },
    { name: "Cost", number: true, cell: (one) => h("span", null, usd(one.cost_usd), one.estimated && [" ", tag("estimated")]) },
  ], items);
}
