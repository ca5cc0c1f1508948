// The running configuration, errors of the last reload, and the reload button.

import { ask, may, read } from "../api.js";
import { fill, h } from "../dom.js";
import { ago } from "../format.js";
import { card, facts, failure, heading, loading, configErrors, note } from "../parts.js";

/** @param {import("../main.js").View} view */
export async function config({ root, signal }) {
  const error = h("div", null);
  const shown = h("div", { class: "stack" }, loading());
  const reload = async (/** @type {any} */ event) => {
    event.target.disabled = true;
    fill(error);
    try {
      const { body } = await ask("/api/v1/config/reload", { method: "POST", body: {} });
      note(`Configuration reloaded: revision ${body.revision} is active.`);
    } catch (problem) {
      fill(error, failure(problem));
    } finally {
      event.target.disabled = false;
    }
    await load();
  };
  const load = async () => {
    try {
      const now = await read("/api/v1/config", signal);
      fill(shown,
        now.refused && h("div", { class: "failure", role: "alert" }, h("p", null, h("strong", null, "The file was rejected "), ago(now.refused.at), h("strong", null, "; the previous configuration is still active.")), configErrors(now.refused)),
        card("Active configuration", facts([["Revision", String(now.revision)], ["File", now.file ?? "built-in defaults"]])),
        card("File", h("pre", null, JSON.stringify(now.config, null, 2))),
        card("Created via API", h("pre", null, JSON.stringify(now.made_by_api, null, 2))));
    } catch (error) {
      if (!signal.aborted) fill(shown, failure(error, load));
    }
  };
  fill(root, heading("Config", "Secrets are masked. Changes of the file are applied automatically.", may("admin") && h("button", { class: "main", onclick: reload }, "Reload now")), error, shown);
  await load();
}
