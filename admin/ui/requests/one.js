// A single request: attempts, routing decision, usage and cost.

import { read } from "../api.js";
import { fill, h } from "../dom.js";
import { count, millis, moment, usd } from "../format.js";
import { card, empty, facts, failure, heading, loading, statusTag, table, tag } from "../parts.js";

/**
 * @param {import("../main.js").View} view
 * @param {string} id
 */
export async function oneRequest({ root, signal }, id) {
  const back = h("a", { class: "button", href: "#/requests" }, "All requests");
  const load = async () => {
    fill(root, heading("Request", h("code", null, id), back), loading());
    try {
      const found = await read(`/api/v1/requests/${encodeURIComponent(id)}`, signal);
      fill(root, heading("Request", h("code", null, found.id), back), ...parts(found));
    } catch (error) {
      if (!signal.aborted) fill(root, heading("Request", h("code", null, id), back), failure(error, load));
    }
  };
  await load();
}

/** @param {any} one */
function parts(one) {
  const link = (/** @type {string} */ field, /** @type {string | null} */ value) =>
    value ? h("a", { href: `#/requests?${field}=${encodeURIComponent(value)}` }, value) : "–";
  return [
    card("Summary", facts([
      ["Status", h("span", { class: "row tight" }, statusTag(one.status), !one.complete && one.status < 400 && tag("incomplete", "bad"), one.stream && tag("stream"))],
      ["Time", moment(one.time)], ["Latency", millis(one.latency_ms)], ["Router overhead before the first attempt", millis(one.router_ms)],
      ["Requested model", one.model_asked ?? "–"], ["Deployment", one.provider ? `${one.provider} / ${one.model}` : "none was called"], ["Format", one.format],
      .../** @type {[any, any][]} */ (one.refused_by ? [["Refused by", h("span", { class: "row tight" }, tag(one.refused_by, "warn"), h("code", null, one.error.code), one.error.message)]] : []),
      ["Client", one.client ?? "–"],
      ["Key", link("key", one.key)], ["Owner", link("owner", one.owner)], ["End user", link("user", one.user)],
      ["Configuration", `revision ${one.revision}`],
    ])),
    one.attempts.length > 0 && card("Attempts", timeline(one)),
    h("div", { class: "columns" }, card("Usage and cost", usage(one)), card("Routing decision", why(one))),
  ];
}

/** @param {any} one */
function timeline(one) {
  const length = (/** @type {any} */ attempt) => attempt.total_ms ?? attempt.first_token_ms ?? attempt.connect_ms ?? 0;
  const router = one.router_ms ?? 0;
  const all = Math.max(router + one.attempts.reduce((/** @type {number} */ sum, /** @type {any} */ attempt) => sum + length(attempt), 0), 0.001);
  let at = router;
  const rows = one.attempts.map((/** @type {any} */ attempt, /** @type {number} */ index) => {
    const [start, total, first] = [at, length(attempt), attempt.first_token_ms ?? 0];
    at += total;
    const part = (/** @type {number} */ ms) => `${(100 * ms) / all}%`;
    const track = h("div", { class: "track", "aria-hidden": "true" },
      h("span", { class: `wait ${attempt.error || attempt.status >= 400 ? "bad" : ""}`, style: { left: part(start), width: part(first || total) } }),
      first > 0 && first < total && h("span", { class: "flow", style: { left: part(start + first), width: part(total - first) } }));
    return h("li", null,
      h("div", { class: "row" }, h("strong", null, `${index + 1}. ${attempt.provider} / ${attempt.model}`), statusTag(attempt.status), attempt.error && tag(attempt.error, "bad"), attempt.disconnect && tag(`client disconnected: ${attempt.disconnect}`)),
      track,
      h("p", { class: "hint" }, attempt.connect_ms === null ? "connection reused" : `connected in ${millis(attempt.connect_ms)}`, ` · first token ${millis(attempt.first_token_ms)} · total ${millis(attempt.total_ms)}`));
  });
  return h("ol", { class: "timeline" }, rows);
}

/** @param {any} one */
function usage(one) {
  const { usage: used } = one;
  return h("div", { class: "stack" },
    h("p", { class: "large" }, usd(one.cost_usd), " ", one.estimated && tag("estimated"), one.inexact.map((/** @type {string} */ reason) => [" ", tag(reason)])),
    facts([["Input tokens", count(used.input_tokens)], ["Cached input tokens", count(used.cached_input_tokens)], ["Cache write tokens", count(used.cache_write_tokens)],
      ["Output tokens", count(used.output_tokens)], ["Reasoning tokens", count(used.reasoning_tokens)]]),
    one.attempts.map(bill));
}

/**
 * Cost of an attempt by class and fee, with the price used.
 * @param {any} attempt
 */
function bill(attempt) {
  const rows = Object.entries(attempt.costs);
  if (rows.length === 0) return null;
  const { price, served_model: served } = attempt;
  return h("div", { class: "stack" },
    table(`Cost at ${attempt.provider} / ${attempt.model}`, [
      { name: "Class", cell: (/** @type {any} */ [name]) => name },
      { name: "Cost", number: true, cell: (/** @type {any} */ [, cost]) => usd(cost) }], rows),
    h("p", { class: "hint" }, served && `served by ${served} · `, price ? `price ${price.entry} from ${price.from ?? "any day"} in ${price.table}` : "no price"));
}

/** @param {any} one */
function why({ rule, explanation }) {
  const name = (/** @type {any} */ one) => `${one.provider} / ${one.model}`;
  return h("div", { class: "stack" },
    h("p", null, rule ? ["Rule ", h("strong", null, rule), ": "] : null, explanation.why),
    explanation.candidates.length === 0 ? empty("The candidates were not recorded.") : table("Candidates", [
      { name: "Candidate", cell: name }, { name: "Tried", cell: (/** @type {any} */ one) => (one.tried ? tag("tried", "accent") : tag("not tried")) }], explanation.candidates),
    explanation.left_out.length > 0 && table("Excluded", [{ name: "Excluded", cell: name }, { name: "Reason", cell: (/** @type {any} */ one) => one.why }], explanation.left_out));
}
