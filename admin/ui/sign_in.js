// The sign-in form. The key is kept for this tab only.

import { ask, ApiError, session } from "./api.js";
import { fill, h, uniqueId } from "./dom.js";
import { logo } from "./frame.js";

/**
 * Asks for a key until one is valid.
 * @param {HTMLElement} app
 * @param {() => void} done
 * @param {string} [why] message to show first
 */
export function signIn(app, done, why = "") {
  document.title = "Sign in · LLM Router";
  document.body.classList.remove("stale");
  const [id, errorId] = [uniqueId("key"), uniqueId("error")];
  const error = h("p", { id: errorId, class: "wrong", role: "alert" }, why);
  const input = h("input", {
    id, type: "password", name: "key", autocomplete: "off", spellcheck: "false", autocapitalize: "off", required: true,
    placeholder: "sk-…", "aria-describedby": errorId,
  });
  const button = h("button", { class: "main", type: "submit" }, "Sign in");
  const onSubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!key) return;
    button.disabled = true;
    fill(error);
    try {
      session.me = (await ask("/api/v1/me", { key })).body;
      session.keep(key);
      done();
    } catch (/** @type {any} */ problem) {
      const wrong = problem instanceof ApiError && problem.status === 401;
      fill(error, wrong ? "Invalid key: it is unknown, revoked or expired." : String(problem.message));
      input.setAttribute("aria-invalid", "true");
      input.select();
    } finally {
      button.disabled = false;
    }
  };
  fill(app, h("main", { class: "sign-in" },
    h("form", { onsubmit: onSubmit },
      h("div", { class: "brand" }, logo(), h("h1", null, "LLM Router")),
      h("label", { for: id }, "Key"),
      input, error, button,
      h("p", { class: "hint" }, "Enter a key of this router, the same that SDKs send. Its role determines what you can see and do. It is stored in this tab only and removed when you close it."))));
  input.focus();
}
