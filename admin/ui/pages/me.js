// The key of the caller.

import { session } from "../api.js";
import { fill, h } from "../dom.js";
import { moment } from "../format.js";
import { budgetText, limitsText } from "../keys/words.js";
import { card, facts, heading } from "../parts.js";

/** @param {import("../main.js").View} view */
export async function me({ root }) {
  const { name = "", role = "", owner = null, key = null, clients_port: port = 0 } = session.me ?? {};
  const base = `${location.protocol}//${location.hostname}:${port}`;
  fill(root,
    heading("My key", "Permissions of your key. Its costs and requests are on the other pages."),
    card("Key", facts([
      ["Name", name], ["Role", role], ["Owner", owner ?? "–"], ["Models", key?.models?.join(", ") ?? "*"],
      ["Limits", limitsText(key?.limits)], ["Budget", budgetText(key?.budget)], ["Expires", key?.expires_at ? moment(key.expires_at) : "never"],
    ])),
    card("Base URLs for SDKs", facts([["OpenAI", h("code", null, `${base}/v1`)], ["Anthropic", h("code", null, base)]])));
}
