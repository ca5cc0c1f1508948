// Reads `/metrics`, the router's own state.

import { ask } from "./api.js";

/** @typedef {{ labels: Record<string, string>, value: number }} Sample */

/**
 * @param {string} text in Prometheus' text format
 * @returns {Map<string, Sample[]>} by the metric's name, without `llm_router_`
 */
export function parseMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const parts = /^llm_router_([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    // Histograms have many lines, and no page needs them.
    if (!parts || parts[1].endsWith("_bucket")) continue;
    const labels = Object.fromEntries([...(parts[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)]
      .map(([, name, value]) => [name, value.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped))]));
    const samples = found.get(parts[1]) ?? [];
    samples.push({ labels, value: Number(parts[3]) });
    found.set(parts[1], samples);
  }
  return found;
}

/** The metrics of the router by name and label. */
export class Metrics {
  /** @param {Map<string, Sample[]>} samples */
  constructor(samples) {
    this.samples = samples;
  }

  /** @param {AbortSignal} signal */
  static async read(signal) {
    return new Metrics(parseMetrics((await ask("/metrics", { signal })).text));
  }

  /**
   * @param {string} name
   * @param {Record<string, string>} [labels]
   * @returns {number | null}
   */
  value(name, labels = {}) {
    const fits = (/** @type {Sample} */ sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
    return this.samples.get(name)?.find(fits)?.value ?? null;
  }

  /**
   * @param {string} name
   * @returns {Sample[]}
   */
  all(name) {
    return this.samples.get(name) ?? [];
  }
}
