// The routing toggle: state, pending change, dialog and history.

import { ask, may } from "../api.js";
import { h } from "../dom.js";
import { dialog, field, checkbox } from "../dialog.js";
import { ago, moment, until } from "../format.js";
import { action, empty, note, table, tag } from "../parts.js";

/**
 * @param {any} status
 * @param {() => Promise<void>} refresh
 */
export function toggleCard(status, refresh) {
  const { enabled, pending } = status;
  const operator = may("operator");
  const lever = h("button", {
    class: "switch", role: "switch", type: "button", "aria-checked": String(enabled), "aria-label": "Rule-based routing",
    disabled: !operator, data: { focus: "switch" }, onclick: () => change(status, refresh),
  }, h("span", { class: "knob" }));
  return h("div", { class: "stack" },
    h("div", { class: "lever" }, lever,
      h("div", null,
        h("p", { class: "state" }, enabled ? "On" : "Off"),
        h("p", { class: "hint" }, enabled ? "Rules are applied to requests." : "Rules are ignored; every request goes to the model it names."))),
    pending && pendingChange(pending, refresh, operator),
    status.cooldown_until && !pending && h("p", { class: "cooldown" }, tag("Cooldown", "warn"), " Next change possible in ", until(status.cooldown_until), may("admin") ? ", or at once with force." : "."),
    h("p", { class: "hint" }, status.changed_at ? ["Changed ", ago(status.changed_at), "."] : "Never changed.",
      !operator && " Changing it requires the role operator."));
}

/**
 * @param {any} pending
 * @param {() => Promise<void>} refresh
 * @param {boolean} operator
 */
function pendingChange(pending, refresh, operator) {
  const cancel = action("Cancel change", async () => {
    await ask("/api/v1/router/toggle", { method: "DELETE" });
    note("Change cancelled.");
    await refresh();
  }, { data: { focus: "cancel" } });
  return h("div", { class: "warning pending" },
    h("p", null, h("strong", null, "Turns ", pending.value ? "on" : "off", " in ", until(pending.effective_at)), "."),
    h("p", null, "“", pending.reason, "” – ", pending.actor),
    operator && cancel);
}

/**
 * Opens the dialog that changes the toggle.
 * @param {any} status
 * @param {() => Promise<void>} refresh
 */
function change(status, refresh) {
  const value = !(status.pending ? status.pending.value : status.enabled);
  const word = value ? "on" : "off";
  const reason = h("input", { name: "reason", required: true, maxlength: 500, autofocus: true, autocomplete: "off", placeholder: "e.g. incident 7, provider down" });
  const delay = h("input", { name: "delay", type: "number", min: 0, max: 31622400, step: "any", inputmode: "decimal", placeholder: "default" });
  const force = h("input", { name: "force", type: "checkbox" });
  dialog({
    title: `Turn routing ${word}`,
    content: [
      field("Reason", reason, "Shown in the history with the name of your key."),
      field("Delay in seconds", delay, "Time until the change takes effect on all replicas. It can be cancelled until then."),
      may("admin") && checkbox("Force: apply now, without delay or cooldown", force),
    ],
    button: `Turn ${word}`,
    danger: !value,
    submit: async () => {
      const body = { value, reason: reason.value, force: force.checked || undefined,
        delay_seconds: delay.value === "" ? undefined : Number(delay.value) };
      const { status: code } = await ask("/api/v1/router/toggle", { method: "POST", body });
      note(code === 202 ? `Routing will be turned ${word}.` : `Routing is ${word}.`);
      await refresh();
    },
  });
}

const OUTCOMES = /** @type {Record<string, string>} */ ({ pending: "warn", applied: "ok", refused: "bad" });

/** @param {any[]} items */
export function historyList(items) {
  if (items.length === 0) return empty("No changes yet.");
  return table("Changes of the toggle", [
    { name: "Requested", cell: (one) => moment(one.requested_at) },
    { name: "Change", cell: (one) => tag(one.value ? "on" : "off", one.value ? "accent" : "") },
    { name: "Reason", cell: (one) => one.reason },
    { name: "By", cell: (one) => one.actor },
    { name: "Outcome", cell: (one) => h("span", null, tag(one.outcome, OUTCOMES[one.outcome] ?? ""), one.ended_by && h("span", { class: "hint" }, ` by ${one.ended_by}`)) },
    { name: "Effective", cell: (one) => moment(one.effective_at) },
  ], items);
}
