// The pages in the order of the menu, with the role that each needs.

import { audit } from "./pages/audit.js";
import { config } from "./pages/config.js";
import { cost } from "./pages/cost.js";
import { explain } from "./pages/explain.js";
import { keys } from "./pages/keys.js";
import { me } from "./pages/me.js";
import { overview } from "./pages/overview.js";
import { providers } from "./pages/providers.js";
import { requests } from "./pages/requests.js";
import { rules } from "./pages/rules.js";

/**
 * @typedef {object} Page
 * @property {string} name first segment of the address
 * @property {string} title
 * @property {string} role least role that may see it
 * @property {string} [below] role from which on another page replaces it
 * @property {(view: import("./main.js").View) => Promise<void>} draw
 */

/** @type {Page[]} */
export const PAGES = [
  { name: "overview", title: "Overview", role: "viewer", draw: overview },
  { name: "me", title: "My key", role: "user", below: "viewer", draw: me },
  { name: "cost", title: "Cost", role: "user", draw: cost },
  { name: "requests", title: "Requests", role: "user", draw: requests },
  { name: "rules", title: "Rules", role: "viewer", draw: rules },
  { name: "explain", title: "Explain", role: "viewer", draw: explain },
  { name: "providers", title: "Providers", role: "viewer", draw: providers },
  { name: "keys", title: "Keys", role: "viewer", draw: keys },
  { name: "audit", title: "Audit", role: "viewer", draw: audit },
  { name: "config", title: "Config", role: "viewer", draw: config },
];
