// What is wrong with the router now, said in the order of how bad it is.

import { fill, h } from "../dom.js";
import { ago, count } from "../format.js";

/** @typedef {{ bad: boolean, what: string, hint?: string, since?: string | null, link?: string }} Problem */

/**
 * @param {{ metrics: import("../metrics.js").Metrics, status: any, config: any, providers: any[] }} state
 * @returns {Problem[]}
 */
export function problems({ metrics, status, config, providers }) {
  return [...dependencies(metrics, status), ...configuration(metrics, config), ...hosts(metrics, providers)]
    .sort((one, other) => Number(other.bad) - Number(one.bad));
}

/**
 * @param {import("../metrics.js").Metrics} metrics
 * @param {any} status
 * @returns {Problem[]}
 */
function dependencies(metrics, status) {
  const found = [];
  const waiting = metrics.value("journal_entries") ?? 0;
  if (status.store_away_since) {
    found.push({ bad: true, what: "The store doesn't answer.", since: status.store_away_since,
      hint: `Requests go on. Changes are refused until it is back; ${count(waiting)} ledger entries wait in the journal.` });
  } else if (waiting > 1000) {
    found.push({ bad: false, what: `${count(waiting)} ledger entries wait for the store.`, hint: "Costs shown here are behind by so many." });
  }
  if (metrics.value("counters_up") === 0) {
    found.push({ bad: true, what: "The shared counters (Redis) are away.", hint: "Limits and budgets hold for each replica by its share." });
  }
  if ((metrics.value("ledger_lost_entries_total") ?? 0) > 0) {
    found.push({ bad: true, what: `${count(metrics.value("ledger_lost_entries_total") ?? 0)} ledger entries were lost.`, hint: "The journal could not be written: see the log, and the disk." });
  } else if ((metrics.value("journal_failures_total") ?? 0) > 0) {
    found.push({ bad: false, what: "The journal could not be written at times since the start.", hint: "See the log, and the disk." });
  }
  return found;
}

/**
 * @param {import("../metrics.js").Metrics} metrics
 * @param {any} config
 * @returns {Problem[]}
 */
function configuration(metrics, config) {
  const found = [];
  if (config.refused) {
    const mistakes = config.refused.errors.length;
    found.push({ bad: true, what: "The configuration file was refused; the one before is in force.", since: config.refused.at,
      hint: mistakes === 1 ? config.refused.errors[0].message : `It has ${mistakes} mistakes.`, link: "#/config" });
  }
  const broken = metrics.value("rules_broken") ?? 0;
  if (broken > 0) found.push({ bad: false, what: `${count(broken)} ${broken === 1 ? "rule" : "rules"} can't work and are left out.`, link: "#/rules" });
  return found;
}

/**
 * @param {import("../metrics.js").Metrics} metrics
 * @param {any[]} providers
 * @returns {Problem[]}
 */
function hosts(metrics, providers) {
  const found = [];
  for (const provider of providers) {
    const link = `#/providers/${encodeURIComponent(provider.id)}`;
    if (provider.problem) found.push({ bad: true, what: `Provider ${provider.id} doesn't take part.`, hint: provider.problem, link });
    else if (metrics.value("provider_healthy", { provider: provider.id }) === 0) {
      found.push({ bad: true, what: `Provider ${provider.id} fails its health checks.`, since: provider.health?.checked_at, hint: provider.health?.error ?? undefined, link });
    }
  }
  for (const { labels, value } of metrics.all("circuit_state")) {
    if (value === 0) continue;
    const name = labels.deployment === "*" ? `Models of ${labels.provider}` : `${labels.provider}/${labels.deployment}`;
    found.push({ bad: value === 2, what: value === 2 ? `${name}: failing, its circuit is open.` : `${name}: tried again after failures.`,
      hint: value === 2 ? "Requests go to the next deployment of their route, if there is one." : undefined,
      link: `#/requests?provider=${encodeURIComponent(labels.provider)}` });
  }
  return found;
}

/**
 * @param {Problem[]} found
 * @param {import("../metrics.js").Metrics} metrics
 */
export function problemsList(found, metrics) {
  const list = h("div", { class: "health", role: "status" });
  if (found.length === 0) {
    const replicas = metrics.value("replicas") ?? 1;
    fill(list, h("p", { class: "well" }, h("span", { class: "dot ok" }), h("strong", null, "Nothing is broken."),
      h("span", { class: "hint" }, `Store, counters, configuration and deployments are well; ${count(replicas)} ${replicas === 1 ? "replica" : "replicas"}.`)));
    return list;
  }
  fill(list, h("ul", { class: "problems" }, found.map((one) =>
    h("li", { class: one.bad ? "bad" : "warn" }, h("strong", null, one.what), " ",
      one.since && h("span", { class: "since" }, ago(one.since), " "),
      one.hint && h("span", null, one.hint, " "), one.link && h("a", { href: one.link }, "Look")))));
  return list;
}
