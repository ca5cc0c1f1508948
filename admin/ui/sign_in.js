// The way in: a key, kept for this tab only.

import { ask, Refusal, session } from "./api.js";
import { fill, h, uniqueId } from "./dom.js";
import { logo } from "./frame.js";

/**
 * Asks for a key until one works.
 * @param {HTMLElement} app
 * @param {() => void} done
 * @param {string} [why] what to say first
 */
export function signIn(app, done, why = "") {
  document.title = "Sign in · LLM Router";
  document.body.classList.remove("stale");
  const [id, told] = [uniqueId("key"), uniqueId("told")];
  const error = h("p", { id: told, class: "wrong", role: "alert" }, why);
  const input = h("input", {
    id, type: "password", name: "key", autocomplete: "off", spellcheck: "false", autocapitalize: "off", required: true,
    placeholder: "sk-…", "aria-describedby": told,
  });
  const button = h("button", { class: "main", type: "submit" }, "Sign in");
  const submitted = async (/** @type {Event} */ event) => {
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
      const wrong = problem instanceof Refusal && problem.status === 401;
      fill(error, wrong ? "This key is not accepted: it is unknown, revoked or expired." : String(problem.message));
      input.setAttribute("aria-invalid", "true");
      input.select();
    } finally {
      button.disabled = false;
    }
  };
  fill(app, h("main", { class: "sign-in" },
    h("form", { onsubmit: submitted },
      h("div", { class: "brand" }, logo(), h("h1", null, "LLM Router")),
      h("label", { for: id }, "Key"),
      input, error, button,
      h("p", { class: "hint" }, "A key of the router, as SDKs send it. What you may see and do depends on its role. It stays in this tab and is gone when you close it."))));
  input.focus();
}
