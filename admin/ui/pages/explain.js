// Explains the routing of a request without sending it.

import { ask } from "../api.js";
import { field, select } from "../dialog.js";
import { fill, h } from "../dom.js";
import { card, empty, facts, failure, heading, loading, table, tag } from "../parts.js";

const EXAMPLE = { model: "auto", messages: [{ role: "user", content: "Why does this segfault? Here is the stack trace …" }] };
const FORMATS = /** @type {[string, string][]} */ ([["", "detect automatically"], ["openai-chat", "OpenAI chat"], ["openai-responses", "OpenAI responses"], ["anthropic-messages", "Anthropic messages"]]);
const STORED = "llm-router-explained";

/** @param {import("../main.js").View} view */
export async function explain({ root, signal }) {
  const body = h("textarea", { name: "body", rows: 12, spellcheck: "false", autocomplete: "off", value: sessionStorage.getItem(STORED) ?? JSON.stringify(EXAMPLE, null, 2) });
  const format = select({ name: "format" }, FORMATS, "");
  const result = h("div", { class: "stack wide", "aria-live": "polite" });
  const go = h("button", { class: "main", type: "submit" }, "Explain");
  const onSubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    go.disabled = true;
    fill(result, loading());
    try {
      sessionStorage.setItem(STORED, body.value);
      const found = await ask(`/api/v1/router/explain${format.value && `?format=${format.value}`}`, { method: "POST", text: body.value, signal });
      fill(result, decision(found.body));
    } catch (error) {
      fill(result, failure(error));
    } finally {
      go.disabled = false;
    }
  };
  fill(root, heading("Explain a request", "Paste the body of an inference request. It is not sent to any provider."),
    h("form", { class: "card stack", onsubmit: onSubmit }, field("Request body", body), h("div", { class: "row foot" }, field("Format", format), go)),
    result);
}

/** @param {any} found */
function decision(found) {
  const name = (/** @type {any} */ one) => h("span", null, h("span", { class: "hint" }, one.provider, " / "), one.model);
  const first = found.candidates[0];
  return [
    card("Decision", h("div", { class: "stack" },
      found.refused ? h("p", { class: "failure" }, h("strong", null, refusal(found.refused))) :
        h("p", { class: "large", data: { decision: "target" } }, first ? [first.provider, " / ", first.model] : "No deployment available."),
      facts([["Requested model", found.model_asked], ["Routing", found.enabled ? "on" : "off: rules are ignored"], ["Rule", found.rule ? h("strong", { data: { decision: "rule" } }, found.rule.name) : "none"], ["Model", found.model ?? "–"],
        ["Parameters set", Object.keys(found.set ?? {}).length ? h("code", null, JSON.stringify(found.set)) : "none"]]))),
    card("Rules, in order of evaluation", found.rules.length === 0 ? empty(found.enabled ? "No rules were evaluated." : "Routing is off.") : table("Rules", [
      { name: "Rule", cell: (rule) => rule.name }, { name: "Result", cell: (rule) => (rule.matched ? tag("match", "ok") : tag("no match")) }, { name: "Reason", cell: (rule) => rule.why }], found.rules)),
    h("div", { class: "columns" },
      card("Candidates, in order", found.candidates.length === 0 ? empty("No candidates.") : table("Candidates", [{ name: "Deployment", cell: name }, { name: "USD per million tokens", cell: (one) => price(one.price) }], found.candidates)),
      card("Excluded", found.left_out.length === 0 ? empty("No deployments were excluded.") : table("Excluded", [{ name: "Deployment", cell: name }, { name: "Reason", cell: (one) => one.why }], found.left_out))),
    found.complexity && complexity(found.complexity),
  ];
}

/** @param {any} refused */
const refusal = (refused) => (typeof refused === "string" ? refused : [refused.status, refused.code, refused.message].filter(Boolean).join(" · "));

/** @param {any} rates */
export function price(rates) {
  if (!rates) return tag("no price", "warn");
  return h("span", { class: "price" }, Object.entries(rates).map(([name, usd]) => h("span", null, h("span", { class: "hint" }, `${name.replaceAll("_", " ")} `), String(usd))));
}

/** @param {any} complexity */
function complexity({ score, features }) {
  const found = features.filter((/** @type {any} */ one) => one.value !== 0).sort((/** @type {any} */ one, /** @type {any} */ other) => Math.abs(other.contribution) - Math.abs(one.contribution));
  const most = Math.max(...found.map((/** @type {any} */ one) => Math.abs(one.contribution)), 0.001);
  return card("Complexity", h("div", { class: "stack" },
    h("div", { class: "score" }, h("span", { class: "large" }, score.toFixed(3)), h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${score * 100}%` } })), h("span", { class: "hint" }, "0 = any model · 1 = strong models only")),
    found.length === 0 ? empty("No features detected.") : table("Features", [
      { name: "Feature", cell: (one) => one.name.replaceAll("_", " ") },
      { name: "Contribution", number: true, cell: (one) => one.contribution.toFixed(3) },
      { name: "Weight", class: "wide-cell", cell: (one) => h("span", { class: `bar ${one.contribution < 0 ? "warn" : ""}`, "aria-hidden": "true" }, h("span", { style: { width: `${(100 * Math.abs(one.contribution)) / most}%` } })) },
    ], found)));
}
