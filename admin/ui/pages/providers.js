// Providers with their health, and the button that checks it.

import { ask, may, readAll } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, millis } from "../format.js";
import { action, empty, failure, heading, loading, note, table, tag } from "../parts.js";

/** @param {import("../main.js").View} view */
export async function providers({ root, signal }) {
  const list = h("div", null, loading());
  fill(root, heading("Providers", "Credentials are never shown. Edit providers in the configuration file or through the API (/docs)."),
    h("section", { class: "card", "aria-label": "Providers" }, list));
  const load = async () => {
    try {
      const { items } = await readAll("/api/v1/providers", signal);
      fill(list, items.length === 0 ? empty("No providers.") : providersTable(items, load));
    } catch (error) {
      if (!signal.aborted) fill(list, failure(error, load));
    }
  };
  await load();
}

/**
 * @param {any[]} items
 * @param {() => Promise<void>} load
 */
function providersTable(items, load) {
  return table("Providers", [
    { name: "Provider", cell: (one) => h("span", null, one.id, h("span", { class: "second" }, one.base_url)) },
    { name: "Type", cell: (one) => one.type },
    { name: "Models", cell: (one) => (one.models ?? ["*"]).map((/** @type {any} */ model) => model.id ?? model).join(", ") },
    { name: "Health", cell: (one) => health(one) },
    { name: "Source", cell: (one) => tag(one.source === "file" ? "file" : "API", one.source === "file" ? "" : "accent") },
    { name: "Actions", cell: (one) => may("operator") && action("Check now", () => check(one, load), { class: "plain", "aria-label": `Check now: ${one.id}`, data: { focus: `check-${one.id}` } }) },
  ], items);
}

/** @param {any} one */
function health(one) {
  if (one.problem) return h("span", null, tag("unusable", "bad"), h("span", { class: "second" }, one.problem));
  if (!one.health) return h("span", { class: "hint" }, "not checked");
  const { healthy, latency_ms: latency, error, checked_at: at } = one.health;
  return h("span", null, tag(healthy ? "healthy" : "unhealthy", healthy ? "ok" : "bad"), " ", millis(latency), at && [" ", ago(at)], error && h("span", { class: "second" }, error));
}

/**
 * @param {any} one
 * @param {() => Promise<void>} load
 */
async function check(one, load) {
  const { body } = await ask(`/api/v1/providers/${encodeURIComponent(one.id)}/health`, { method: "POST", body: {} });
  note(body.healthy ? `${one.id} is healthy (${millis(body.latency_ms)}).` : `${one.id} is unhealthy: ${body.error ?? body.status}`, body.healthy ? "ok" : "bad");
  await load();
}
