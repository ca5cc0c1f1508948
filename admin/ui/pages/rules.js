// The list of rules in the order in which they are tried.

import { ask, may, readAll } from "../api.js";
import { fill, h } from "../dom.js";
import { action, empty, failure, heading, loading, note, table, tag } from "../parts.js";
import { ruleForm } from "../rules/form.js";
import { actionText, conditionText } from "../rules/words.js";

/** @param {import("../main.js").View} view */
export async function rules(view) {
  if (view.path[0]) return ruleForm(view, view.path[0]);
  const { root, signal } = view;
  const list = h("div", null, loading());
  fill(root,
    heading("Rules", "Evaluated from top to bottom; the first match wins.",
      h("a", { class: "button", href: "#/explain" }, "Explain a request"), may("operator") && h("a", { class: "button main", href: "#/rules/new" }, "New rule")),
    h("section", { class: "card", "aria-label": "Rules" }, list));
  const load = async () => {
    try {
      const { items, more } = await readAll("/api/v1/router/rules", signal);
      fill(list, items.length === 0 ? none() : rulesTable(items, load), more && h("p", { class: "hint" }, `Only the first ${items.length} rules are shown.`));
    } catch (error) {
      if (!signal.aborted) fill(list, failure(error, load));
    }
  };
  await load();
}

const none = () => empty("No rules.", "Every request goes to the model it names, and “auto” to the default model.");

/**
 * @param {any[]} items
 * @param {() => Promise<void>} load
 */
function rulesTable(items, load) {
  return table("Rules", [
    { name: "#", cell: (rule) => String(items.indexOf(rule) + 1), class: "place" },
    { name: "Rule", cell: (rule) => h("span", null, h("a", { href: `#/rules/${encodeURIComponent(rule.id)}` }, rule.name), " ", state(rule)) },
    { name: "When", cell: (rule) => conditionText(rule.when) },
    { name: "Then", cell: (rule) => actionText(rule.then) },
    { name: "Priority", number: true, cell: (rule) => String(rule.priority) },
    { name: "Source", cell: (rule) => tag(rule.source === "file" ? "file" : "API", rule.source === "file" ? "" : "accent") },
    { name: "Actions", cell: (rule) => may("operator") && rule.source === "api" && action(rule.enabled ? "Disable" : "Enable", () => setEnabled(rule, load), { class: "plain", "aria-label": `${rule.enabled ? "Disable" : "Enable"} ${rule.name}`, data: { focus: `flip-${rule.id}` } }) },
  ], items);
}

/** @param {any} rule */
function state(rule) {
  return h("span", { class: "tags" },
    !rule.enabled && tag("disabled"), rule.broken && tag("error", "bad"),
    rule.problems.map((/** @type {any} */ problem) => h("span", { class: `problem ${problem.severity === "error" ? "bad" : "warn"}` }, problem.field && h("code", null, problem.field, ": "), problem.message)));
}

/**
 * @param {any} rule
 * @param {() => Promise<void>} load
 */
async function setEnabled(rule, load) {
  const path = `/api/v1/router/rules/${encodeURIComponent(rule.id)}`;
  const { body, etag } = await ask(path);
  await ask(path, { method: "PUT", etag, body: { name: body.name, priority: body.priority, when: body.when, then: body.then, enabled: !rule.enabled } });
  note(`${rule.name} ${rule.enabled ? "disabled" : "enabled"}.`);
  await load();
}

