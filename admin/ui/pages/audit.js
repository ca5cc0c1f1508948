// The audit log.

import { read, withQuery } from "../api.js";
import { fill, h } from "../dom.js";
import { moment } from "../format.js";
import { action, empty, failure, heading, loading, table, tag } from "../parts.js";

/** @param {import("../main.js").View} view */
export async function audit({ root, signal }) {
  const list = h("div", { class: "stack" }, loading());
  fill(root, heading("Audit", "All changes, newest first. Secrets are masked."), h("section", { class: "card", "aria-label": "Changes" }, list));
  /** @type {any[]} */
  const items = [];
  const next = async (/** @type {string | null} */ cursor) => {
    const page = await read(withQuery("/api/v1/audit", { limit: 50, cursor }), signal);
    items.push(...page.items);
    fill(list, items.length === 0 ? empty("No changes yet.") : changes(items),
      page.next_cursor && action("Show 50 more", () => next(page.next_cursor), { data: { focus: "more" } }));
  };
  try {
    await next(null);
  } catch (error) {
    if (!signal.aborted) fill(list, failure(error));
  }
}

/** @param {any[]} items */
function changes(items) {
  return table("Changes", [
    { name: "Time", cell: (one) => moment(one.at) },
    { name: "Actor", cell: (one) => one.actor },
    { name: "Change", cell: (one) => h("span", null, tag(one.action), ` ${one.kind} `, one.after?.name ?? one.before?.name ?? one.object) },
    { name: "Before and after", cell: (one) => h("details", null, h("summary", null, "Show"),
      h("pre", null, JSON.stringify({ before: one.before, after: one.after }, null, 2))) },
  ], items);
}
