// Dialogs with a form, and the fields of forms.

import { fill, h, uniqueId } from "./dom.js";
import { failure } from "./parts.js";

/** @typedef {import("./dom.js").Child} Child */

/**
 * Opens a dialog with a form. If `submit` throws, the dialog shows the error and stays open. Closing it
 * returns the focus to where it was.
 * @param {{ title: string, content: Child, button: string, danger?: boolean, submit: (form: HTMLFormElement) => Promise<void> }} asked
 */
export function dialog({ title, content, button, danger = false, submit }) {
  const id = uniqueId("dialog");
  const wrong = h("div", null);
  const go = h("button", { class: danger ? "main danger" : "main", type: "submit" }, button);
  const onSubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    go.disabled = true;
    fill(wrong);
    try {
      await submit(form);
      shown.close();
    } catch (error) {
      fill(wrong, failure(error));
    } finally {
      go.disabled = false;
    }
  };
  const form = h("form", { onsubmit: onSubmit },
    h("h2", { id }, title), content, wrong,
    h("div", { class: "row end" }, h("button", { type: "button", onclick: () => shown.close() }, "Cancel"), go));
  const before = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.focus : undefined;
  const closed = () => {
    shown.remove();
    // If the focused element was redrawn in the meantime, the browser can't restore the focus itself.
    const again = before && document.querySelector(`[data-focus="${CSS.escape(before)}"]`);
    if (again instanceof HTMLElement) again.focus();
  };
  const shown = h("dialog", { "aria-labelledby": id, onclose: closed }, form);
  document.body.append(shown);
  shown.showModal();
}

/**
 * Returns a form field with its label.
 * @param {string} label
 * @param {any} input
 * @param {Child} [hint]
 */
export function field(label, input, hint) {
  input.id ||= uniqueId("field");
  const described = hint ? uniqueId("hint") : null;
  if (described) input.setAttribute("aria-describedby", described);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint && h("p", { id: described, class: "hint" }, hint));
}

/**
 * Returns a labelled checkbox.
 * @param {string} label
 * @param {any} input
 */
export const checkbox = (label, input) => h("label", { class: "tick" }, input, label);

/**
 * Returns a drop-down list.
 * @param {import("./dom.js").Props} props
 * @param {[string, string][]} choices value and name
 * @param {string} chosen
 */
export const select = (props, choices, chosen) =>
  h("select", props, choices.map(([value, name]) => h("option", { value, selected: value === chosen }, name)));
