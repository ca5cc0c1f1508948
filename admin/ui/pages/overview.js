// Health, routing toggle, costs, traffic and deployments at a glance.

import { read, readAll } from "../api.js";
import { fill, h } from "../dom.js";
import { ago } from "../format.js";
import { Metrics } from "../metrics.js";
import { card, failure, heading, loading } from "../parts.js";
import { poll } from "../poll.js";
import { deploymentsTable } from "../overview/deployments.js";
import { problems, problemsList } from "../overview/problems.js";
import { spendFigures } from "../overview/spend.js";
import { historyList, toggleCard } from "../overview/toggle.js";
import { Rate, trafficFigures } from "../overview/traffic.js";

/** @param {import("../main.js").View} view */
export async function overview(view) {
  const { root, signal } = view;
  const box = () => h("div", null, loading());
  const [health, toggle, history, spend, traffic, deployments] = [box(), box(), box(), box(), box(), box()];
  const since = h("p", { class: "hint" });
  const rate = new Rate();
  fill(root,
    heading("Overview", since),
    health,
    h("div", { class: "columns" }, card("Routing", toggle, { class: "routing" }), card("Spend", spend, { aside: h("a", { href: "#/cost" }, "Cost details") })),
    card("Traffic", traffic, { aside: h("a", { href: "#/requests" }, "Recent requests") }),
    card("Deployments", deployments, { aside: h("a", { href: "#/providers" }, "Providers") }),
    card("Toggle history", history));

  const into = (/** @type {Element} */ part) => (/** @type {Error} */ error) => fill(part, failure(error, refresh));
  const status = async () => {
    const now = await read("/api/v1/router/status", signal);
    redraw(toggle, now, () => toggleCard(now, refresh));
    return now;
  };
  const refresh = async () => {
    try {
      await status();
      await past();
    } catch (error) {
      into(toggle)(/** @type {Error} */ (error));
    }
  };
  const past = async () => {
    const { items } = await read("/api/v1/router/history?limit=8", signal);
    redraw(history, items, () => historyList(items));
  };

  poll(view, 1, async () => void (await status()), into(toggle));
  poll(view, 4, past, into(history));
  poll(view, 2, async () => {
    const figures = await read("/api/v1/router/metrics", signal);
    rate.add(figures.total);
    redraw(since, figures.since, () => ["Counted by this replica since it started ", ago(figures.since), "."]);
    fill(traffic, trafficFigures(figures, rate));
  }, into(traffic));
  poll(view, 3, async () => {
    const [metrics, now, config, providers, figures] = await Promise.all([
      Metrics.read(signal), read("/api/v1/router/status", signal), read("/api/v1/config", signal),
      readAll("/api/v1/providers", signal), read("/api/v1/router/metrics", signal),
    ]);
    const found = problems({ metrics, status: now, config, providers: providers.items, figures });
    redraw(health, found, () => problemsList(found, metrics));
    fill(deployments, deploymentsTable(metrics, figures));
  }, into(health));
  poll(view, 5, async () => {
    const current = await read("/api/v1/cost/current", signal);
    redraw(spend, current, () => spendFigures(current));
  }, into(spend));
}

/** @type {WeakMap<Element, string>} */
const drawn = new WeakMap();

/**
 * Redraws a part only if its data has changed, so that it neither flickers nor loses the focus.
 * @param {Element} part
 * @param {any} shown
 * @param {() => import("../dom.js").Child} draw
 */
function redraw(part, shown, draw) {
  const text = JSON.stringify(shown);
  if (drawn.get(part) === text && !part.querySelector(".failure")) return;
  drawn.set(part, text);
  fill(part, draw());
}
