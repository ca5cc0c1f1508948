// Parts that many pages share: headings, cards, tables, empty states, errors, notices.

import { ApiError, NetworkError } from "./api.js";
import { fill, h, uniqueId } from "./dom.js";

/** @typedef {import("./dom.js").Child} Child */

/**
 * Returns the heading of a page, with its actions.
 * @param {Child} title
 * @param {Child} [hint]
 * @param {...Child} actions
 */
export function heading(title, hint, ...actions) {
  return h("div", { class: "heading" }, h("div", null, h("h1", null, title), hint && h("p", { class: "hint" }, hint)),
    h("div", { class: "actions" }, actions));
}

/**
 * Returns a section of a page with a title.
 * @param {Child} title
 * @param {Child} content
 * @param {{ class?: string, aside?: Child }} [more]
 */
export function card(title, content, more = {}) {
  const id = uniqueId("card");
  return h("section", { class: `card ${more.class ?? ""}`, "aria-labelledby": id },
    h("div", { class: "card-head" }, h("h2", { id }, title), more.aside), content);
}

export const loading = () => h("p", { class: "loading", "aria-busy": "true" }, "Loading…");

/**
 * @param {Child} what
 * @param {Child} [hint]
 */
export const empty = (what, hint) => h("div", { class: "empty" }, h("p", null, what), hint && h("p", { class: "hint" }, hint));

/**
 * Returns an error message, with a button to try again.
 * @param {any} error
 * @param {(() => void) | null} [again]
 */
export function failure(error, again = null) {
  if (!(error instanceof ApiError) && !(error instanceof NetworkError)) console.error(error);
  return h("div", { class: "failure", role: "alert" },
    h("p", null, h("strong", null, errorText(error))),
    error instanceof ApiError && h("p", { class: "hint" }, error.status === 403 ? "Sign in with a key that has a higher role." : `${error.code || "status"} · ${error.status}`),
    configErrors(error),
    again && h("button", { type: "button", onclick: again }, "Retry"));
}

/** @param {any} error */
function errorText(error) {
  if (error instanceof ApiError && error.status === 412) return "Somebody else changed this in the meantime. Reload it and repeat your change.";
  if (error instanceof ApiError && error.field && !error.message.includes(error.field)) return `${error.field}: ${error.message}`;
  return error.message;
}

/**
 * Lists the errors of a configuration, as `llm-router check` prints them.
 * @param {any} error
 */
export function configErrors(error) {
  const list = error?.errors ?? [];
  return list.length > 0 && h("ul", { class: "mistakes" }, list.map((/** @type {any} */ one) =>
    h("li", null, h("code", null, `${one.file}${one.line ? `:${one.line}` : ""}: ${one.field}`), `: ${one.message}`)));
}

/**
 * A column of a table: its name, the function that makes a cell, and whether it holds numbers.
 * @typedef {{ name: Child, cell: (row: any) => Child, number?: boolean, class?: string }} Column
 */

/**
 * Returns a table. On narrow screens rows become blocks, so each cell has its column's name.
 * @param {string} caption
 * @param {Column[]} columns
 * @param {any[]} rows
 */
export function table(caption, columns, rows) {
  const kind = (/** @type {Column} */ column) => [column.number && "number", column.class].filter(Boolean).join(" ") || null;
  return h("table", null,
    h("caption", null, caption),
    h("thead", null, h("tr", null, columns.map((column) => h("th", { scope: "col", class: kind(column) }, column.name)))),
    h("tbody", null, rows.map((row) =>
      h("tr", null, columns.map((column) =>
        h("td", { class: kind(column), data: { name: typeof column.name === "string" ? column.name : "" } }, column.cell(row)))))));
}

/**
 * Returns a list of names and values.
 * @param {[Child, Child][]} pairs
 */
export const facts = (pairs) => h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));

/**
 * Returns a coloured label: ok, warn, bad or none.
 * @param {Child} text
 * @param {string} [kind]
 */
export const tag = (text, kind = "") => h("span", { class: `tag ${kind}` }, text);

/**
 * Returns the label of a status.
 * @param {number} status
 */
export const statusTag = (status) => tag(String(status), status < 400 ? "ok" : status < 500 ? "warn" : "bad");

/**
 * Shows a notice for six seconds.
 * @param {Child} text
 * @param {string} [kind]
 */
export function note(text, kind = "ok") {
  const shown = h("div", { class: `note ${kind}` }, text);
  document.getElementById("notes")?.append(shown);
  setTimeout(() => shown.remove(), 6000);
}

/**
 * Returns a button that runs one action at a time and shows its error.
 * @param {Child} text
 * @param {() => Promise<void>} work
 * @param {import("./dom.js").Props} [props]
 */
export function action(text, work, props = {}) {
  const button = h("button", { type: "button", ...props, onclick: async () => {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      note(errorText(error), "bad");
      if (!(error instanceof ApiError) && !(error instanceof NetworkError)) throw error;
    } finally {
      button.disabled = false;
    }
  } }, text);
  return button;
}

/**
 * Returns a part of a page that is drawn when its data has arrived.
 * @param {Promise<Child>} coming
 * @param {AbortSignal} signal
 */
export function whenLoaded(coming, signal) {
  const box = h("div", null, loading());
  coming.then((content) => fill(box, content), (error) => signal.aborted || fill(box, failure(error)));
  return box;
}
