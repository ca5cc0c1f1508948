// The table of deployments with their state, from the router's metrics.

import { h } from "../dom.js";
import { compact, count, millis, percent } from "../format.js";
import { empty, table, tag } from "../parts.js";

const CIRCUIT = [tag.bind(null, "healthy", "ok"), tag.bind(null, "recovering", "warn"), tag.bind(null, "unhealthy", "bad")];

/**
 * @param {import("../metrics.js").Metrics} metrics
 * @param {any} figures
 */
export function deploymentsTable(metrics, figures) {
  const key = (/** @type {string} */ provider, /** @type {string} */ model) => `${provider}/${model}`;
  const counted = new Map(figures.by_deployment.map((/** @type {any} */ one) => [key(one.provider, one.model), one]));
  const rows = metrics.all("circuit_state").map(({ labels, value }) => {
    const { provider, deployment } = labels;
    return { provider, deployment, circuit: value, found: counted.get(key(provider, deployment)),
      resting: metrics.value("deployment_resting", labels) === 1, healthy: metrics.value("provider_healthy", { provider }) !== 0,
      open: metrics.value("deployment_requests_in_flight", labels) ?? 0 };
  // Models that the configuration does not name share one row, shown only if it is in use.
  }).filter((row) => row.deployment !== "*" || row.found || row.circuit);
  if (rows.length === 0) return empty("No deployments.", h("a", { href: "#/providers" }, "Go to providers"));
  rows.sort((one, other) => trouble(other) - trouble(one) || (other.found?.requests ?? 0) - (one.found?.requests ?? 0));
  const shown = rows.slice(0, 50);
  return h("div", { class: "stack" }, table("Deployments", [
    { name: "Deployment", cell: (row) => h("span", null, h("span", { class: "hint" }, row.provider, " / "), row.deployment === "*" ? "other models" : row.deployment) },
    { name: "State", cell: state },
    { name: "In flight", number: true, cell: (row) => count(row.open) },
    { name: "Requests", number: true, cell: (row) => compact(row.found?.requests ?? 0) },
    { name: "Failures", number: true, cell: (row) => h("span", { class: row.found?.failures ? "bad" : null }, row.found ? percent(row.found.failures, row.found.requests) : "–") },
    { name: "p50", number: true, cell: (row) => millis(row.found?.latency_ms?.p50) },
    { name: "p95", number: true, cell: (row) => millis(row.found?.latency_ms?.p95) },
  ], shown), rows.length > shown.length && h("p", { class: "hint" }, `${count(rows.length - shown.length)} more not shown.`));
}

/** @param {any} row */
const trouble = (row) => row.circuit * 2 + Number(row.resting) + 4 * Number(!row.healthy);

/** @param {any} row */
function state(row) {
  if (!row.healthy) return tag("unhealthy", "bad");
  if (row.circuit > 0) return CIRCUIT[row.circuit]();
  return row.resting ? tag("cooldown", "warn") : CIRCUIT[0]();
}
