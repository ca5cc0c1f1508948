// The configuration in force, what was wrong with the last one, and loading the file again.

import { ask, may, read } from "../api.js";
import { fill, h } from "../dom.js";
import { ago } from "../format.js";
import { card, facts, failure, heading, loading, mistakes, note } from "../parts.js";

/** @param {import("../main.js").View} view */
export async function config({ root, signal }) {
  const told = h("div", null);
  const shown = h("div", { class: "stack" }, loading());
  const reload = async (/** @type {any} */ event) => {
    event.target.disabled = true;
    fill(told);
    try {
      const { body } = await ask("/api/v1/config/reload", { method: "POST", body: {} });
      note(`Loaded: revision ${body.revision} is in force.`);
    } catch (error) {
      fill(told, failure(error));
    } finally {
      event.target.disabled = false;
    }
    await load();
  };
  const load = async () => {
    try {
      const now = await read("/api/v1/config", signal);
      fill(shown,
        now.refused && h("div", { class: "failure", role: "alert" }, h("p", null, h("strong", null, "The file was refused "), ago(now.refused.at), h("strong", null, "; the one before is in force.")), mistakes(now.refused)),
        card("In force", facts([["Revision", String(now.revision)], ["File", now.file ?? "built-in defaults"]])),
        card("The file, as it was read", h("pre", null, JSON.stringify(now.config, null, 2))),
        card("Made by API", h("pre", null, JSON.stringify(now.made_by_api, null, 2))));
    } catch (error) {
      if (!signal.aborted) fill(shown, failure(error, load));
    }
  };
  fill(root, heading("Config", "Secrets are masked. The file is watched: a change takes effect by itself.", may("admin") && h("button", { class: "main", onclick: reload }, "Reload now")), told, shown);
  await load();
}
