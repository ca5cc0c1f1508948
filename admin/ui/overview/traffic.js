// Requests, refusals, mistakes of clients, failures, tokens, latencies and the current request rate.

import { h, svg } from "../dom.js";
import { compact, millis, percent } from "../format.js";
import { empty } from "../parts.js";

const MOST = 150;

/** Derives requests per second from running totals. */
export class Rate {
  /** @type {{ at: number, requests: number, failures: number }[]} */
  seen = [];

  /** @param {{ requests: number, failures: number }} total */
  add({ requests, failures }) {
    // A restarted router counts from zero.
    if (this.seen.length > 0 && requests < this.seen[this.seen.length - 1].requests) this.seen = [];
    this.seen.push({ at: performance.now(), requests, failures });
    if (this.seen.length > MOST) this.seen.shift();
  }

  /** @returns {{ requests: number, failures: number }[]} per second, between two samples */
  steps() {
    return this.seen.slice(1).map((one, at) => {
      const before = this.seen[at];
      const seconds = (one.at - before.at) / 1000;
      return { requests: (one.requests - before.requests) / seconds, failures: (one.failures - before.failures) / seconds };
    });
  }
}

/**
 * @param {any} figures
 * @param {Rate} rate
 */
export function trafficFigures(figures, rate) {
  const { total } = figures;
  if (total.requests === 0) return empty("No requests yet.", "Point an SDK at the inference port of this router, with one of its keys.");
  const steps = rate.steps();
  const last = steps.at(-1)?.requests ?? 0;
  const figure = (/** @type {string} */ name, /** @type {any} */ value, /** @type {any} */ hint, kind = "") =>
    h("div", { class: "figure" }, h("dt", null, name), h("dd", { class: `large ${kind}` }, value), h("dd", { class: "hint" }, hint));
  return h("div", { class: "stack" },
    h("dl", { class: "figures" },
      figure("Requests", compact(total.requests), `${last < 10 ? last.toFixed(1) : Math.round(last)} per second now`),
      figure("Failures", compact(total.failures), `${percent(total.failures, total.requests)}: deployments or the router failed`, total.failures > 0 ? "bad" : ""),
      figure("Refused", compact(total.refused), `${percent(total.refused, total.requests)}: key, limit, budget or rule`),
      figure("Client errors", compact(total.client_errors), `${percent(total.client_errors, total.requests)}: the request was wrong`),
      figure("Input tokens", compact(total.input_tokens), [compact(total.cached_input_tokens), " cached"]),
      figure("Output tokens", compact(total.output_tokens), "including reasoning")),
    h("div", { class: "columns" },
      h("div", { class: "stack" }, h("h3", null, "Requests per second, live"), sparkline(steps)),
      h("div", { class: "stack" }, h("h3", null, "Latency"), quantiles([["Total", total.latency_ms], ["First byte", total.first_byte_ms]]))));
}

/** @param {{ requests: number, failures: number }[]} steps */
function sparkline(steps) {
  const [width, height] = [MOST - 1, 44];
  const top = Math.max(1, ...steps.map((step) => step.requests));
  const line = (/** @type {"requests" | "failures"} */ of) => steps.map((step, at) =>
    `${at ? "L" : "M"}${(width - steps.length + 1 + at).toFixed(1)} ${(height - 1 - (step[of] / top) * (height - 4)).toFixed(1)}`).join("");
  return svg("svg", { class: "sparkline", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `Requests per second, maximum ${top.toFixed(1)}` },
    svg("path", { class: "base", d: `M0 ${height - 0.5}H${width}` }),
    svg("path", { class: "line", d: line("requests") }),
    steps.some((step) => step.failures > 0) && svg("path", { class: "line errors", d: line("failures") }));
}

/** @param {[string, any][]} rows */
function quantiles(rows) {
  const known = rows.filter(([, found]) => found);
  const longest = Math.max(...known.map(([, found]) => found.p99));
  return h("div", { class: "quantiles" }, known.map(([name, found]) =>
    h("div", null, h("span", { class: "name" }, name),
      h("ul", null, ["p50", "p90", "p95", "p99"].map((at) =>
        h("li", null, h("span", { class: "hint" }, at), " ", millis(found[at]),
          h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${(100 * found[at]) / longest}%` } }))))))));
}
