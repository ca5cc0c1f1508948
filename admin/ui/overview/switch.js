// The routing switch: its state, what is about to change, and the way to change it.

import { ask, may } from "../api.js";
import { h } from "../dom.js";
import { dialog, field, tick } from "../dialog.js";
import { ago, moment, until } from "../format.js";
import { action, empty, note, table, tag } from "../parts.js";

/**
 * @param {any} status
 * @param {() => Promise<void>} refresh
 */
export function switchCard(status, refresh) {
  const { enabled, pending } = status;
  const operator = may("operator");
  const lever = h("button", {
    class: "switch", role: "switch", type: "button", "aria-checked": String(enabled), "aria-label": "Routing by rules",
    disabled: !operator, data: { focus: "switch" }, onclick: () => change(status, refresh),
  }, h("span", { class: "knob" }));
  return h("div", { class: "stack" },
    h("div", { class: "lever" }, lever,
      h("div", null,
        h("p", { class: "state" }, enabled ? "On" : "Off"),
        h("p", { class: "hint" }, enabled ? "Rules decide where requests go." : "Every request goes to the model it asks for; no rule is tried."))),
    pending && waiting(pending, refresh, operator),
    status.cooldown_until && !pending && h("p", { class: "cooldown" }, tag("Cooldown", "warn"), " It can be changed again in ", until(status.cooldown_until), may("admin") ? ", or by force." : "."),
    h("p", { class: "hint" }, status.changed_at ? ["Changed ", ago(status.changed_at), "."] : "Not changed since the first start.",
      !operator && " Changing it needs the role operator."));
}

/**
 * @param {any} pending
 * @param {() => Promise<void>} refresh
 * @param {boolean} operator
 */
function waiting(pending, refresh, operator) {
  const cancel = action("Cancel the change", async () => {
    await ask("/api/v1/router/toggle", { method: "DELETE" });
    note("The change is cancelled.");
    await refresh();
  }, { data: { focus: "cancel" } });
  return h("div", { class: "warning pending" },
    h("p", null, h("strong", null, "Switches ", pending.value ? "on" : "off", " in ", until(pending.effective_at)), "."),
    h("p", null, "“", pending.reason, "” – ", pending.actor),
    operator && cancel);
}

/**
 * Asks for a change of the switch.
 * @param {any} status
 * @param {() => Promise<void>} refresh
 */
function change(status, refresh) {
  const value = !(status.pending ? status.pending.value : status.enabled);
  const word = value ? "on" : "off";
  const reason = h("input", { name: "reason", required: true, maxlength: 500, autofocus: true, autocomplete: "off", placeholder: "As: incident 7, provider down" });
  const delay = h("input", { name: "delay", type: "number", min: 0, max: 31622400, step: "any", inputmode: "decimal", placeholder: "as configured" });
  const force = h("input", { name: "force", type: "checkbox" });
  dialog({
    title: `Switch routing ${word}`,
    content: [
      field("Reason", reason, "The history shows it, with the name of your key."),
      field("Delay in seconds", delay, "Until it takes effect on every replica. It can be cancelled until then."),
      may("admin") && tick("At once, whatever the delay and the cooldown", force),
    ],
    button: `Switch ${word}`,
    danger: !value,
    submit: async () => {
      const body = { value, reason: reason.value, force: force.checked || undefined,
        delay_seconds: delay.value === "" ? undefined : Number(delay.value) };
      const { status: code } = await ask("/api/v1/router/toggle", { method: "POST", body });
      note(code === 202 ? `Routing will be switched ${word}.` : `Routing is ${word}.`);
      await refresh();
    },
  });
}

const OUTCOMES = /** @type {Record<string, string>} */ ({ pending: "warn", applied: "ok", refused: "bad" });

/** @param {any[]} items */
export function historyList(items) {
  if (items.length === 0) return empty("Nobody has changed the switch yet.");
  return table("What was asked of the switch", [
    { name: "Asked", cell: (one) => moment(one.requested_at) },
    { name: "Change", cell: (one) => tag(one.value ? "on" : "off", one.value ? "accent" : "") },
    { name: "Reason", cell: (one) => one.reason },
    { name: "By", cell: (one) => one.actor },
    { name: "Outcome", cell: (one) => h("span", null, tag(one.outcome, OUTCOMES[one.outcome] ?? ""), one.ended_by && h("span", { class: "hint" }, ` by ${one.ended_by}`)) },
    { name: "In effect", cell: (one) => moment(one.effective_at) },
  ], items);
}
