// What the holder of a key may know of it.

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
    heading("My key", "What it may use. Its costs and requests are on the other pages."),
    card("The key", facts([
      ["Name", name], ["Role", role], ["Owner", owner ?? "–"], ["Models", key?.models?.join(", ") ?? "*"],
      ["Limits", limitsText(key?.limits)], ["Budget", budgetText(key?.budget)], ["Expires", key?.expires_at ? moment(key.expires_at) : "never"],
    ])),
    card("The address for SDKs", facts([["OpenAI", h("code", null, `${base}/v1`)], ["Anthropic", h("code", null, base)]])));
}
