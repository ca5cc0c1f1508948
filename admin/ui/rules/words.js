// Short texts for conditions and actions of rules.

import { h } from "../dom.js";

/** @typedef {import("../dom.js").Child} Child */

/**
 * @param {any} when
 * @returns {Child}
 */
export function conditionText(when) {
  const parts = Object.entries(when ?? {}).filter(([name]) => name !== "in").map(([name, value]) => one(name, value, when));
  if (parts.length === 0) return h("span", { class: "hint" }, "always");
  return join(parts, " and ");
}

/**
 * @param {Child[]} parts
 * @param {string} between
 */
const join = (parts, between) => h("span", null, parts.map((part, at) => [at > 0 && h("span", { class: "hint" }, between), part]));

/**
 * @param {string} name
 * @param {any} value
 * @param {any} when
 * @returns {Child}
 */
function one(name, value, when) {
  switch (name) {
    case "all": return ["(", join(value.map(conditionText), " and "), ")"];
    case "any": return ["(", join(value.map(conditionText), " or "), ")"];
    case "not": return [h("span", { class: "hint" }, "not "), conditionText(value)];
    case "regex": return [h("span", { class: "hint" }, when.in && when.in !== "last_user" ? `${when.in} text matches ` : "user text matches "), h("code", null, value)];
    case "header": return [h("span", { class: "hint" }, "header "), value.name, h("span", { class: "hint" }, value.regex ? " matches " : " = "), h("code", null, value.regex ?? value.equals)];
    case "complexity": case "tokens": return [h("span", { class: "hint" }, `${name} `), range(value)];
    case "has": return [h("span", { class: "hint" }, "has "), value.join(", ")];
    case "time": return [h("span", { class: "hint" }, "time "), [value.from, value.to].filter(Boolean).join("–"), value.days ? ` ${value.days.join(", ")}` : ""];
    default: return [h("span", { class: "hint" }, `${name} = `), typeof value === "string" ? value : h("code", null, JSON.stringify(value))];
  }
}

/** @param {any} value */
function range({ min, max }) {
  if (min === undefined || min === null) return `≤ ${max}`;
  return max === undefined || max === null ? `≥ ${min}` : `${min} to ${max}`;
}

/**
 * @param {any} then
 * @returns {Child}
 */
export function actionText(then) {
  const parts = [];
  const soft = (/** @type {string} */ text) => h("span", { class: "hint" }, text);
  if (then.use_model) parts.push([soft("model "), then.use_model]);
  if (then.use_provider) parts.push([soft("provider "), then.use_provider]);
  if (then.split) parts.push([soft("split "), then.split.map((/** @type {any} */ side) => `${side.model} ${side.weight}`).join(", "), then.sticky_by ? soft(` by ${then.sticky_by}`) : null]);
  if (then.block) parts.push([soft("block "), `${then.block.status ?? 403} ${then.block.message ?? ""}`]);
  if (then.set) parts.push([soft("set "), h("code", null, JSON.stringify(then.set))]);
  return join(parts, "; ");
}
