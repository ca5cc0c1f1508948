// Current problems of the router, worst first.

import { fill, h } from "../dom.js";
import { ago, count, percent } from "../format.js";

/** @typedef {{ bad: boolean, what: string, hint?: string, since?: string | null, link?: string }} Problem */

/**
 * @param {{ metrics: import("../metrics.js").Metrics, status: any, config: any, providers: any[], figures: any }} state
 * @returns {Problem[]}
 */
export function problems({ metrics, status, config, providers, figures }) {
  return [...outcomes(figures.recent), ...dependencies(metrics, status), ...configuration(metrics, config), ...hosts(metrics, providers)]
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
    found.push({ bad: true, what: "The store is unavailable.", since: status.store_away_since,
      hint: `Requests are still served. Changes are rejected until it is back; ${count(waiting)} ledger entries are waiting in the journal.` });
  } else if (waiting > 1000) {
    found.push({ bad: false, what: `${count(waiting)} ledger entries are waiting to be stored.`, hint: "Costs shown here do not include them yet." });
  }
  if (metrics.value("counters_up") === 0) {
    found.push({ bad: true, what: "The shared counters (Redis) are unavailable.", hint: "Each replica enforces its share of limits and budgets." });
  }
  if ((metrics.value("ledger_lost_entries_total") ?? 0) > 0) {
    found.push({ bad: true, what: `${count(metrics.value("ledger_lost_entries_total") ?? 0)} ledger entries were lost.`, hint: "The journal could not be written. Check the log and the disk." });
  } else if ((metrics.value("journal_failures_total") ?? 0) > 0) {
    found.push({ bad: false, what: "Writes to the journal have failed since the start.", hint: "Check the log and the disk." });
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
    const errors = config.refused.errors.length;
    found.push({ bad: true, what: "The configuration file was rejected; the previous one is still active.", since: config.refused.at,
      hint: errors === 1 ? config.refused.errors[0].message : `It has ${errors} errors.`, link: "#/config" });
  }
  const broken = metrics.value("rules_broken") ?? 0;
  if (broken > 0) found.push({ bad: false, what: `${broken === 1 ? "1 rule has errors and is" : `${count(broken)} rules have errors and are`} skipped.`, link: "#/rules" });
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
    if (provider.problem) found.push({ bad: true, what: `Provider ${provider.id} can't be used.`, hint: provider.problem, link });
    else if (metrics.value("provider_healthy", { provider: provider.id }) === 0) {
      found.push({ bad: true, what: `Provider ${provider.id} is failing its health checks.`, since: provider.health?.checked_at, hint: provider.health?.error ?? undefined, link });
    }
  }
  for (const { labels, value } of metrics.all("circuit_state")) {
    if (value === 0) continue;
    const name = labels.deployment === "*" ? `Models of ${labels.provider}` : `${labels.provider}/${labels.deployment}`;
    found.push({ bad: value === 2, what: value === 2 ? `${name} is unhealthy: its circuit is open.` : `${name} is recovering after failures.`,
      hint: value === 2 ? "Requests go to the next deployment of the route, if there is one." : undefined,
      link: `#/requests?provider=${encodeURIComponent(labels.provider)}` });
  }
  return found;
}

/** The least share of recent requests, and the least number, that are told as a problem. */
const [SHARE, LEAST] = [0.02, 3];

/**
 * What becomes of requests now, whatever the state of the parts says.
 * @param {any} recent
 * @returns {Problem[]}
 */
function outcomes(recent) {
  const found = [];
  const many = (/** @type {number} */ number, /** @type {number} */ share) => number >= LEAST && number >= share * recent.requests;
  const told = (/** @type {number} */ number) => `${percent(number, recent.requests)} of the requests of the last ${recent.seconds} seconds`;
  if (many(recent.failures, SHARE)) {
    found.push({ bad: true, what: `${told(recent.failures)} failed.`, hint: "Deployments or the router failed, and no other deployment answered.", link: "#/requests" });
  }
  if (many(recent.refused, 0.2)) {
    found.push({ bad: false, what: `${told(recent.refused)} were refused.`, hint: "By keys, limits, budgets or rules.", link: "#/requests" });
  }
  if (many(recent.client_errors, 0.2)) {
    found.push({ bad: false, what: `${told(recent.client_errors)} were wrong themselves.`, hint: "Models that do not exist, invalid bodies, and what providers reject.", link: "#/requests?refused_by=request" });
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
    fill(list, h("p", { class: "healthy" }, h("span", { class: "dot ok" }), h("strong", null, "All systems operational"),
      h("span", { class: "hint" }, `Store, counters, configuration, deployments and the latest requests are fine; ${count(replicas)} ${replicas === 1 ? "replica" : "replicas"}.`)));
    return list;
  }
  fill(list, h("ul", { class: "problems" }, found.map((one) =>
    h("li", { class: one.bad ? "bad" : "warn" }, h("strong", null, one.what), " ",
      one.since && h("span", { class: "since" }, ago(one.since), " "),
      one.hint && h("span", null, one.hint, " "), one.link && h("a", { href: one.link }, "Details")))));
  return list;
}
