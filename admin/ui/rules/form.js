// A single rule: view, create, edit and delete.

import { ask, may } from "../api.js";
import { dialog, field, select, checkbox } from "../dialog.js";
import { fill, h } from "../dom.js";
import { moment } from "../format.js";
import { card, facts, failure, heading, loading, note } from "../parts.js";

const CONDITIONS = /** @type {[string, any][]} */ ([
  ["always", {}], ["text matches pattern", { regex: "(?i)stack trace|segfault" }], ["complexity", { complexity: { max: 0.35 } }],
  ["header", { header: { name: "x-region", equals: "eu" } }], ["requested model", { model: "gpt-*" }], ["key", { key: "ci" }], ["owner", { owner: "team-a" }],
  ["tokens", { tokens: { min: 20000 } }], ["tools, images, JSON schema", { has: ["tools"] }], ["time of day (UTC)", { time: { from: "22:00", to: "06:00" } }],
  ["two conditions", { all: [{ owner: "team-a" }, { not: { model: "claude-*" } }] }],
]);
const ACTIONS = /** @type {[string, any][]} */ ([
  ["use model", { use_model: "fast" }], ["use provider", { use_provider: "openai" }],
  ["split traffic", { split: [{ model: "fast", weight: 95 }, { model: "strong", weight: 5 }], sticky_by: "key" }],
  ["block with error", { block: { status: 403, message: "Not allowed." } }], ["request parameters", { set: { max_tokens: 500 } }],
]);
const FIRST = { name: "", priority: 0, enabled: true, when: {}, then: { use_model: "" }, source: "api" };

/**
 * @param {import("../main.js").View} view
 * @param {string} id `new` for a new rule
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
      heading(id === "new" ? "New rule" : rule.name, rule.source === "file" ? "This rule is defined in the configuration file. Edit it there; the router reloads the file automatically." : null, back,
        changeable && id !== "new" && h("button", { class: "danger", onclick: () => remove(rule, path, etag) }, "Delete")),
      rule.problems?.map((/** @type {any} */ problem) => h("p", { class: problem.severity === "error" ? "failure" : "warning" }, h("span", null, problem.field && h("code", null, problem.field, ": "), problem.message))),
      changeable ? form(rule, id === "new" ? null : path, etag, load) : ruleView(rule));
  };
  await load();
}

/** @param {any} rule */
function ruleView(rule) {
  return card("Definition", h("div", { class: "stack" },
    facts([["Priority", String(rule.priority)], ["Enabled", rule.enabled ? "yes" : "no"], ["Created", moment(rule.created_at ?? null)]]),
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
  const save = h("button", { class: "main", type: "submit" }, path ? "Save" : "Create rule");
  const onSubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    save.disabled = true;
    fill(wrong);
    try {
      const body = { name: name.value.trim(), priority: Number(priority.value), enabled: enabled.checked, when: parseField("When", when), then: parseField("Then", then) };
      await ask(path ?? "/api/v1/router/rules", { method: path ? "PUT" : "POST", etag, body });
      note(`${body.name} is active.`);
      location.hash = "/rules";
    } catch (/** @type {any} */ error) {
      fill(wrong, failure(error, error.status === 412 ? reload : null));
    } finally {
      save.disabled = false;
    }
  };
  return h("form", { class: "card stack rule-form", onsubmit: onSubmit },
    h("div", { class: "fields" }, field("Name", name), field("Priority", priority, "Lower values are evaluated first.")),
    h("div", { class: "columns" },
      h("div", { class: "stack" }, field("When", when, "All conditions must match. Same fields as in the configuration file, as JSON."), examples("Add condition", CONDITIONS, when, addCondition)),
      h("div", { class: "stack" }, field("Then", then, "One action, optionally with “set”."), examples("Add action", ACTIONS, then, addAction))),
    checkbox("Enabled", enabled), wrong, h("div", { class: "row" }, save));
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
function parseField(label, input) {
  try {
    return JSON.parse(input.value.trim() || "{}");
  } catch (/** @type {any} */ error) {
    throw new Error(`${label} is not valid JSON: ${error.message}`, { cause: "typed" });
  }
}

/**
 * Adds a condition to those that must all match; the empty one removes them.
 * @param {any} current
 * @param {any} example
 */
const addCondition = (current, example) => (Object.keys(example).length > 0 ? { ...current, ...example } : {});

/**
 * Sets the action; `set` may stand beside each of the others.
 * @param {any} current
 * @param {any} example
 */
const addAction = (current, example) => (example.set ? { ...current, ...example } : { ...(current.set && { set: current.set }), ...example });

/**
 * Returns a drop-down list that adds an example to the JSON of a text field.
 * @param {string} label
 * @param {[string, any][]} choices
 * @param {any} input
 * @param {(current: any, example: any) => any} add
 */
function examples(label, choices, input, add) {
  const current = () => {
    try {
      return JSON.parse(input.value.trim() || "{}");
    } catch {
      return {};
    }
  };
  const choose = (/** @type {any} */ event) => {
    const choice = choices.find(([name]) => name === event.target.value);
    if (choice) input.value = JSON.stringify(add(current(), choice[1]), null, 2);
    event.target.value = "";
    input.focus();
  };
  return select({ "aria-label": label, class: "small", onchange: choose }, [["", `${label}…`], ...choices.map(([name]) => /** @type {[string, string]} */ ([name, name]))], "");
}

/**
 * @param {any} rule
 * @param {string} path
 * @param {string | null} etag
 */
function remove(rule, path, etag) {
  dialog({
    title: `Delete ${rule.name}?`, content: h("p", null, "Requests that match it will go to the next matching rule."), button: "Delete", danger: true,
    submit: async () => {
      await ask(path, { method: "DELETE", etag });
      note(`${rule.name} deleted.`);
      location.hash = "/rules";
    },
  });
}
