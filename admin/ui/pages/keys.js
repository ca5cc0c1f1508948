// Keys of the file and of the API; the latter can be created, rotated, disabled and deleted.

import { ask, may, readAll } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, moment } from "../format.js";
import { budgetText, limitsText } from "../keys/words.js";
import { newKey, rotate, secretCard } from "../keys/forms.js";
import { dialog } from "../dialog.js";
import { action, empty, failure, heading, loading, note, table, tag } from "../parts.js";

/** @param {import("../main.js").View} view */
export async function keys({ root, signal }) {
  const list = h("div", null, loading());
  const made = h("div", null);
  const load = async () => {
    try {
      const { items, more } = await readAll("/api/v1/keys", signal);
      fill(list, items.length === 0 ? empty("No keys except the bootstrap admin key.") : keysTable(items, load, show),
        more && h("p", { class: "hint" }, `Only the first ${items.length} keys are shown.`));
    } catch (error) {
      if (!signal.aborted) fill(list, failure(error, load));
    }
  };
  const show = (/** @type {any} */ key) => {
    fill(made, secretCard(key));
    void load();
  };
  fill(root,
    heading("Keys", "Only the first characters of each key are shown.", may("admin") && h("button", { class: "main", onclick: () => newKey(show) }, "New key")),
    made, h("section", { class: "card", "aria-label": "Keys" }, list));
  await load();
}

/**
 * @param {any[]} items
 * @param {() => Promise<void>} load
 * @param {(key: any) => void} show
 */
function keysTable(items, load, show) {
  return table("Keys", [
    { name: "Key", cell: (key) => h("span", null, key.name, h("span", { class: "second" }, key.prefix && [key.prefix, "…"])) },
    { name: "Role", cell: (key) => tag(key.role, key.role === "admin" ? "accent" : "") },
    { name: "Owner", cell: (key) => key.owner },
    { name: "Models", cell: (key) => key.models.join(", ") },
    { name: "Limits", cell: (key) => limitsText(key.limits) },
    { name: "Budget", cell: (key) => budgetText(key.budget) },
    { name: "Last used", cell: (key) => (key.last_used_at ? ago(key.last_used_at) : "–") },
    { name: "State", cell: (key) => state(key) },
    { name: "Actions", cell: (key) => may("admin") && key.source === "api" && actions(key, load, show) },
  ], items);
}

/** @param {any} key */
function state(key) {
  const over = key.expires_at && Date.parse(key.expires_at) < Date.now();
  return h("span", { class: "tags" }, tag(key.source === "file" ? "file" : "API"), !key.enabled && tag("disabled", "warn"),
    over ? tag("expired", "bad") : key.expires_at && h("span", { class: "hint" }, "expires ", moment(key.expires_at)),
    key.previous_until && h("span", { class: "hint" }, "previous secret valid until ", moment(key.previous_until)));
}

/**
 * @param {any} key
 * @param {() => Promise<void>} load
 * @param {(key: any) => void} show
 */
function actions(key, load, show) {
  const word = key.enabled ? "Disable" : "Enable";
  return h("div", { class: "row" },
    h("button", { class: "plain", "aria-label": `Rotate ${key.name}`, onclick: () => rotate(key, show) }, "Rotate"),
    action(word, () => setEnabled(key, load), { class: "plain", "aria-label": `${word} ${key.name}`, data: { focus: `flip-${key.id}` } }),
    h("button", { class: "plain", "aria-label": `Delete ${key.name}`, onclick: () => remove(key, load) }, "Delete"));
}

const pathOf = (/** @type {any} */ key) => `/api/v1/keys/${encodeURIComponent(key.id)}`;

/**
 * @param {any} key
 * @param {() => Promise<void>} load
 */
async function setEnabled(key, load) {
  const { body, etag } = await ask(pathOf(key));
  // The amount of the budget is a string here and is sent back as one: the API accepts both.
  const { name, role, owner, models, limits, budget, expires_at } = body;
  await ask(pathOf(key), { method: "PUT", etag, body: { name, role, owner, models, limits, budget, expires_at, enabled: !key.enabled } });
  note(`${key.name} ${key.enabled ? "disabled" : "enabled"}.`);
  await load();
}

/**
 * @param {any} key
 * @param {() => Promise<void>} load
 */
function remove(key, load) {
  dialog({
    title: `Delete ${key.name}?`, content: h("p", null, "All replicas will reject it immediately. This can't be undone."), button: "Delete", danger: true,
    submit: async () => {
      await ask(pathOf(key), { method: "DELETE" });
      note(`${key.name} deleted.`);
      await load();
    },
  });
}
