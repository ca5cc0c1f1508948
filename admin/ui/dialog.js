// Asks something in a window before it is done.

import { fill, h, uniqueId } from "./dom.js";
import { failure } from "./parts.js";

/** @typedef {import("./dom.js").Child} Child */

/**
 * Opens a window with a form. `submit` does what was asked; what it throws is shown, and the window
 * stays. Closing gives the focus back to where it was.
 * @param {{ title: string, content: Child, button: string, danger?: boolean, submit: (form: HTMLFormElement) => Promise<void> }} asked
 */
export function dialog({ title, content, button, danger = false, submit }) {
  const id = uniqueId("dialog");
  const wrong = h("div", null);
  const go = h("button", { class: danger ? "main danger" : "main", type: "submit" }, button);
  const submitted = async (/** @type {Event} */ event) => {
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
  const form = h("form", { onsubmit: submitted },
    h("h2", { id }, title), content, wrong,
    h("div", { class: "row end" }, h("button", { type: "button", onclick: () => shown.close() }, "Back"), go));
  const before = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.focus : undefined;
  const closed = () => {
    shown.remove();
    // What had the focus may have been drawn anew meanwhile: then the browser can't give it back.
    const again = before && document.querySelector(`[data-focus="${CSS.escape(before)}"]`);
    if (again instanceof HTMLElement) again.focus();
  };
  const shown = h("dialog", { "aria-labelledby": id, onclose: closed }, form);
  document.body.append(shown);
  shown.showModal();
}

/**
 * A field of a form with its label.
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
 * A box to tick.
 * @param {string} label
 * @param {any} input
 */
export const tick = (label, input) => h("label", { class: "tick" }, input, label);

/**
 * One of several.
 * @param {import("./dom.js").Props} props
 * @param {[string, string][]} choices value and name
 * @param {string} chosen
 */
export const select = (props, choices, chosen) =>
  h("select", props, choices.map(([value, name]) => h("option", { value, selected: value === chosen }, name)));
