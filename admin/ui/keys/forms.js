// Making a key and giving it another text. The text is shown this once.

import { ask } from "../api.js";
import { dialog, field, select } from "../dialog.js";
import { h } from "../dom.js";
import { card, note } from "../parts.js";

const ROLES = /** @type {[string, string][]} */ ([["user", "user: models, and its own usage"], ["viewer", "viewer: reads everything"], ["operator", "operator: also the switch and rules"], ["admin", "admin: everything"]]);
const PERIODS = /** @type {[string, string][]} */ (["day", "week", "month", "total"].map((name) => [name, name]));

/** @param {(key: any) => void} show */
export function newKey(show) {
  const text = (/** @type {string} */ name, props = {}) => h("input", { name, autocomplete: "off", spellcheck: "false", ...props });
  const number = (/** @type {string} */ name) => text(name, { type: "number", min: 0, step: 1, placeholder: "no limit" });
  dialog({
    title: "New key",
    content: [
      field("Name", text("name", { required: true, autofocus: true })),
      field("Owner", text("owner", { placeholder: "as the name" }), "The team or project that its costs count for."),
      field("Role", select({ name: "role" }, ROLES, "user")),
      field("Models", text("models", { value: "*" }), "Names or patterns, with commas between them."),
      field("Requests a minute", number("rpm")), field("Tokens a minute", number("tpm")), field("Requests at a time", number("concurrency")),
      field("Budget in USD", text("usd", { inputmode: "decimal", pattern: "[0-9]+(\\.[0-9]+)?", placeholder: "none" })),
      field("Budget's period", select({ name: "period" }, PERIODS, "month")),
    ],
    button: "Make the key",
    submit: async (form) => {
      const given = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
      const { body } = await ask("/api/v1/keys", { method: "POST", body: wanted(given) });
      show(body);
    },
  });
}

/** @param {Record<string, string>} given */
function wanted(given) {
  const limits = Object.fromEntries(["rpm", "tpm", "concurrency"].filter((name) => given[name]).map((name) => [name, Number(given[name])]));
  return {
    name: given.name, role: given.role, owner: given.owner || undefined,
    models: given.models.split(",").map((name) => name.trim()).filter(Boolean),
    limits: Object.keys(limits).length > 0 ? limits : undefined,
    budget: given.usd ? { usd: given.usd, period: given.period } : undefined,
  };
}

/**
 * @param {any} key
 * @param {(key: any) => void} show
 */
export function rotate(key, show) {
  const overlap = h("input", { name: "overlap", type: "number", min: 0, max: 2592000, step: 1, value: 86400, required: true });
  dialog({
    title: `Another text for ${key.name}`, content: field("The old one works on for, in seconds", overlap, "A day is 86400; 0 ends it at once."), button: "Rotate",
    submit: async () => {
      const { body } = await ask(`/api/v1/keys/${encodeURIComponent(key.id)}/rotate`, { method: "POST", body: { overlap_seconds: Number(overlap.value) } });
      show(body);
    },
  });
}

/** @param {any} key */
export function shownOnce(key) {
  const text = h("code", { class: "secret", data: { secret: "" } }, key.key);
  const copy = h("button", { class: "main", type: "button", onclick: async () => {
    await navigator.clipboard.writeText(key.key);
    note("Copied.");
  } }, "Copy");
  return card(`The text of ${key.name}`, h("div", { class: "stack", role: "status" },
    h("p", null, "It is shown this once: keep it now. What is lost can only be rotated."), h("div", { class: "row" }, text, copy)));
}
