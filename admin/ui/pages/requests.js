// What became of recent requests, and of a single one.

import { may, read, withQuery } from "../api.js";
import { field } from "../dialog.js";
import { fill, h } from "../dom.js";
import { compact, millis, moment, usd } from "../format.js";
import { action, empty, failure, heading, loading, statusTag, table, tag } from "../parts.js";
import { oneRequest } from "../requests/one.js";

/** @type {[string, string, import("../dom.js").Props][]} */
const FILTERS = [
  ["from", "From", { placeholder: "2026-11-24 or with time" }], ["to", "To, included", { placeholder: "2026-11-24 or with time" }],
  ["provider", "Provider", {}], ["model", "Model, deployment's", {}], ["rule", "Rule", {}],
  ["status", "Status", { inputmode: "numeric", pattern: "[1-5][0-9]{2}", placeholder: "as 503" }],
  ["key", "Key", {}], ["owner", "Owner", {}], ["user", "End user", {}],
  ["min_cost_usd", "Cost at least, USD", { inputmode: "decimal" }], ["min_latency_ms", "Took at least, ms", { inputmode: "numeric" }],
];
/** A user's requests are those of its owner or key: these filters would change nothing. */
const OTHERS = ["key", "owner"];

/** @param {import("../main.js").View} view */
export async function requests(view) {
  const { root, path, query, signal } = view;
  if (path[0]) return oneRequest(view, path[0]);
  const filters = FILTERS.filter(([name]) => may("viewer") || !OTHERS.includes(name));
  const asked = Object.fromEntries(filters.map(([name]) => [name, query.get(name) ?? ""]));
  const set = Object.values(asked).filter(Boolean).length;
  const inputs = filters.map(([name, label, props]) => field(label, h("input", { name, value: asked[name], autocomplete: "off", spellcheck: "false", ...props })));
  const submitted = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    location.hash = withQuery("/requests", Object.fromEntries([...form].map(([name, value]) => [name, String(value).trim()])));
  };
  const more = h("details", { open: set > 0 }, h("summary", null, set ? `${set} ${set === 1 ? "filter" : "filters"} set` : "Filter"),
    h("form", { class: "stack", onsubmit: submitted }, h("div", { class: "filters" }, inputs),
      h("div", { class: "row" }, h("button", { class: "main", type: "submit" }, "Show"), set > 0 && h("a", { class: "button", href: "#/requests" }, "Show all"))));
  const byId = h("input", { "aria-label": "Request id", placeholder: "x-request-id", name: "id", autocomplete: "off", spellcheck: "false" });
  const find = h("form", { class: "row find", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    if (byId.value.trim()) location.hash = `/requests/${encodeURIComponent(byId.value.trim())}`;
  } }, byId, h("button", { type: "submit" }, "Find"));
  const list = h("div", { class: "stack" }, loading());
  fill(root, heading("Requests", "Those that reached a provider, the newest first. What was said in them is not kept.", find),
    h("section", { class: "card", "aria-label": "Filters" }, more), h("section", { class: "card", "aria-label": "The requests" }, list));
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
      items.length === 0 ? empty(set ? "No request fits these filters." : "No request yet.", set ? null : "They show here a moment after they ended.") : requestsTable(items),
      h("div", { class: "row" }, action("Look again", load, { data: { focus: "again" } }), cursor && action("Show 50 more", () => next(cursor), { data: { focus: "more" } }),
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
    { name: "Status", cell: (one) => h("span", { class: "row tight" }, statusTag(one.status), !one.complete && one.status < 400 && tag("broke off", "bad"), one.attempts.length > 1 && tag(`${one.attempts.length} attempts`)) },
    { name: "Model asked, and where it went", cell: (one) => h("span", null, one.model_asked, h("span", { class: "second" }, one.provider, " / ", one.model, one.rule && [" by rule ", one.rule])) },
    { name: "Who", cell: (one) => h("span", null, one.key, one.user && one.user !== one.owner && h("span", { class: "second" }, one.user)) },
    { name: "Took", number: true, cell: (one) => millis(one.latency_ms) },
    { name: "Tokens", number: true, cell: (one) => h("span", null, compact(one.usage.input_tokens), " → ", compact(one.usage.output_tokens)) },
    { name: "Cost", number: true, cell: (one) => h("span", null, usd(one.cost_usd), one.estimated && [" ", tag("estimated")]) },
  ], items);
}
