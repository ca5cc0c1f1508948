// One rule: to look at, to make, to change, to delete.

import { ask, may } from "../api.js";
import { dialog, field, select, tick } from "../dialog.js";
import { fill, h } from "../dom.js";
import { moment } from "../format.js";
import { card, facts, failure, heading, loading, note } from "../parts.js";

const CONDITIONS = /** @type {[string, any][]} */ ([
  ["always", {}], ["text matches a pattern", { regex: "(?i)stack trace|segfault" }], ["complexity", { complexity: { max: 0.35 } }],
  ["header", { header: { name: "x-region", equals: "eu" } }], ["model asked", { model: "gpt-*" }], ["key", { key: "ci" }], ["owner", { owner: "team-a" }],
  ["tokens", { tokens: { min: 20000 } }], ["tools, images, JSON schema", { has: ["tools"] }], ["time of day (UTC)", { time: { from: "22:00", to: "06:00" } }],
  ["both of two", { all: [{ owner: "team-a" }, { not: { model: "claude-*" } }] }],
]);
const ACTIONS = /** @type {[string, any][]} */ ([
  ["a model", { use_model: "fast" }], ["a provider", { use_provider: "openai" }],
  ["a split", { split: [{ model: "fast", weight: 95 }, { model: "strong", weight: 5 }], sticky_by: "key" }],
  ["an error", { block: { status: 403, message: "Not here." } }], ["other parameters", { set: { max_tokens: 500 } }],
]);
const FIRST = { name: "", priority: 0, enabled: true, when: {}, then: { use_model: "" }, source: "api" };

/**
 * @param {import("../main.js").View} view
 * @param {string} id `new` for one that isn't there yet
 */
export async function ruleForm({ root, signal }, id) {
  const path = `/api/v1/router/rules/${encodeURIComponent(id)}`;
  const back = h("a", { class: "button", href: "#/rules" }, "All rules");
  const load = async () => {
    if (id === "new") return draw(FIRST, null);
    fill(root, heading("Rule", null, back), loading());
    try {
      const { body, etag } = await ask(path, { signal });
      draw(body, etag);
    } catch (error) {
      if (!signal.aborted) fill(root, heading("Rule", null, back), failure(error, load));
    }
  };
  /**
   * @param {any} rule
   * @param {string | null} etag
   */
  const draw = (rule, etag) => {
    const changeable = rule.source === "api" && may("operator");
    fill(root,
      heading(id === "new" ? "New rule" : rule.name, rule.source === "file" ? "It stands in the configuration file: change it there, and the router follows." : null, back,
        changeable && id !== "new" && h("button", { class: "danger", onclick: () => remove(rule, path, etag) }, "Delete")),
      rule.problems?.map((/** @type {any} */ problem) => h("p", { class: problem.severity === "error" ? "failure" : "warning" }, h("span", null, problem.field && h("code", null, problem.field, ": "), problem.message))),
      changeable ? form(rule, id === "new" ? null : path, etag, load) : shown(rule));
  };
  await load();
}

/** @param {any} rule */
function shown(rule) {
  return card("What it says", h("div", { class: "stack" },
    facts([["Priority", String(rule.priority)], ["Enabled", rule.enabled ? "yes" : "no"], ["Made", moment(rule.created_at ?? null)]]),
    h("h3", null, "When"), h("pre", null, JSON.stringify(rule.when, null, 2)), h("h3", null, "Then"), h("pre", null, JSON.stringify(rule.then, null, 2))));
}

/**
 * @param {any} rule
 * @param {string | null} path
 * @param {string | null} etag
 * @param {() => Promise<void>} reload
 */
function form(rule, path, etag, reload) {
  const name = h("input", { name: "name", required: true, value: rule.name, autocomplete: "off" });
  const priority = h("input", { name: "priority", type: "number", step: 1, required: true, value: rule.priority });
  const enabled = h("input", { name: "enabled", type: "checkbox" });
  enabled.checked = rule.enabled;
  const when = area("when", rule.when);
  const then = area("then", rule.then);
  const wrong = h("div", null);
  const save = h("button", { class: "main", type: "submit" }, path ? "Save" : "Make the rule");
  const submitted = async (/** @type {Event} */ event) => {
    event.preventDefault();
    save.disabled = true;
    fill(wrong);
    try {
      const body = { name: name.value.trim(), priority: Number(priority.value), enabled: enabled.checked, when: parsed("When", when), then: parsed("Then", then) };
      await ask(path ?? "/api/v1/router/rules", { method: path ? "PUT" : "POST", etag, body });
      note(`${body.name} is in force.`);
      location.hash = "/rules";
    } catch (/** @type {any} */ error) {
      fill(wrong, failure(error, error.status === 412 ? reload : null));
    } finally {
      save.disabled = false;
    }
  };
  return h("form", { class: "card stack rule-form", onsubmit: submitted },
    h("div", { class: "fields" }, field("Name", name), field("Priority", priority, "Lower is tried first.")),
    h("div", { class: "columns" },
      h("div", { class: "stack" }, field("When", when, "All of it must hold. As in the configuration file, in JSON."), starter("Put in a condition", CONDITIONS, when)),
      h("div", { class: "stack" }, field("Then", then, "One action, with or without “set”."), starter("Put in an action", ACTIONS, then))),
    tick("Enabled", enabled), wrong, h("div", { class: "row" }, save));
}

/**
 * @param {string} name
 * @param {any} value
 */
const area = (name, value) => h("textarea", { name, rows: 9, spellcheck: "false", autocomplete: "off", value: JSON.stringify(value, null, 2) });

/**
 * @param {string} label
 * @param {any} input
 */
function parsed(label, input) {
  try {
    return JSON.parse(input.value.trim() || "{}");
  } catch (/** @type {any} */ error) {
    throw new Error(`${label} is no JSON: ${error.message}`, { cause: "typed" });
  }
}

/**
 * @param {string} label
 * @param {[string, any][]} choices
 * @param {any} into
 */
function starter(label, choices, into) {
  const choose = (/** @type {any} */ event) => {
    const found = choices.find(([name]) => name === event.target.value);
    if (found) into.value = JSON.stringify(found[1], null, 2);
    event.target.value = "";
    into.focus();
  };
  return select({ "aria-label": label, class: "small", onchange: choose }, [["", `${label} …`], ...choices.map(([name]) => /** @type {[string, string]} */ ([name, name]))], "");
}

/**
 * @param {any} rule
 * @param {string} path
 * @param {string | null} etag
 */
function remove(rule, path, etag) {
  dialog({
    title: `Delete ${rule.name}?`, content: h("p", null, "Requests that it decided on go to the next rule that matches."), button: "Delete", danger: true,
    submit: async () => {
      await ask(path, { method: "DELETE", etag });
      note(`${rule.name} is deleted.`);
      location.hash = "/rules";
    },
  });
}
