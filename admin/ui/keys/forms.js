// Dialogs that create and rotate keys. A secret is shown once.

import { ask } from "../api.js";
import { dialog, field, select } from "../dialog.js";
import { h } from "../dom.js";
import { card, note } from "../parts.js";

const ROLES = /** @type {[string, string][]} */ ([["user", "user: inference and own usage"], ["viewer", "viewer: read-only access"], ["operator", "operator: also toggle and rules"], ["admin", "admin: full access"]]);
const PERIODS = /** @type {[string, string][]} */ (["day", "week", "month", "total"].map((name) => [name, name]));

/** @param {(key: any) => void} show */
export function newKey(show) {
  const text = (/** @type {string} */ name, props = {}) => h("input", { name, autocomplete: "off", spellcheck: "false", ...props });
  const number = (/** @type {string} */ name) => text(name, { type: "number", min: 0, step: 1, placeholder: "no limit" });
  dialog({
    title: "New key",
    content: [
      field("Name", text("name", { required: true, autofocus: true })),
      field("Owner", text("owner", { placeholder: "same as the name" }), "Team or project that the costs are attributed to."),
      field("Role", select({ name: "role" }, ROLES, "user")),
      field("Models", text("models", { value: "*" }), "Names or patterns, separated by commas."),
      field("Requests per minute", number("rpm")), field("Tokens per minute", number("tpm")), field("Concurrent requests", number("concurrency")),
      field("Budget in USD", text("usd", { inputmode: "decimal", pattern: "[0-9]+(\\.[0-9]+)?", placeholder: "none" })),
      field("Budget period", select({ name: "period" }, PERIODS, "month")),
    ],
    button: "Create key",
    submit: async (form) => {
      const given = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
      const { body } = await ask("/api/v1/keys", { method: "POST", body: keyBody(given) });
      show(body);
    },
  });
}

/** @param {Record<string, string>} given */
function keyBody(given) {
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
    title: `Rotate ${key.name}`, content: field("Overlap in seconds", overlap, "The current secret stays valid for this time (86400 is one day). 0 revokes it at once."), button: "Rotate",
    submit: async () => {
      const { body } = await ask(`/api/v1/keys/${encodeURIComponent(key.id)}/rotate`, { method: "POST", body: { overlap_seconds: Number(overlap.value) } });
      show(body);
    },
  });
}

/** @param {any} key */
export function secretCard(key) {
  const text = h("code", { class: "secret", data: { secret: "" } }, key.key);
  const copy = h("button", { class: "main", type: "button", onclick: async () => {
    await navigator.clipboard.writeText(key.key);
    note("Copied.");
  } }, "Copy");
  return card(`Secret of ${key.name}`, h("div", { class: "stack", role: "status" },
    h("p", null, "Copy it now. It is not shown again; if you lose it, rotate the key."), h("div", { class: "row" }, text, copy)));
}
