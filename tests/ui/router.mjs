// Starts a router and a mock provider of its own on free ports, for the browser to look at.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const ROOT = "sk-root-0123456789abcdef";
export const LOOKER = "sk-look-0123456789abcdef";
export const OPERATOR = "sk-oper-0123456789abcdef";
export const TEAM = "sk-team-0123456789abcdef";

/** A model's name, an end user's and a rule's that would run a script, were it taken for markup. */
export const HOSTILE = `<img src=x onerror="window.ran=1">`;

async function freePorts(many) {
  const servers = await Promise.all(Array.from({ length: many }, () => new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => done(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

/** Tries until something is so, or half a minute has passed. */
export async function eventually(what, holds, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  let last;
  while (Date.now() < end) {
    try {
      last = await holds();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`not within ${seconds} s: ${what}; at last: ${last}`);
}

const config = (clients, admin, mock) => `
server: { listen: "127.0.0.1:${clients}" }
admin: { listen: "127.0.0.1:${admin}" }
store: { url: "sqlite:ui.db" }
providers:
  - { id: openai, type: openai, base_url: "http://127.0.0.1:${mock}/v1", api_key: sk-credential-0123456789, models: ["*"], forward_headers: ["x-mock-*"], timeouts: { connect: 1s, first_byte: 5s } }
  - { id: anthropic, type: anthropic, base_url: "http://127.0.0.1:${mock}", models: [claude-mock], forward_headers: ["x-mock-*"] }
models:
  - { name: fast, deployments: [ { provider: openai, model: gpt-mock-mini } ], fallbacks: [strong] }
  - { name: strong, deployments: [ { provider: anthropic, model: claude-mock } ] }
routing:
  default_model: fast
  toggle: { delay: 2s, cooldown: 2s }
  rules:
    - { name: code-goes-to-strong, priority: 10, when: { regex: '(?i)stack trace|segfault' }, then: { use_model: strong } }
keys:
  - { name: root, key: ${ROOT}, role: admin }
  - { name: looker, key: ${LOOKER}, role: viewer }
  - { name: oncall, key: ${OPERATOR}, role: operator }
  - { name: team-a-app, key: ${TEAM}, role: user, owner: team-a, limits: { rpm: 600, tpm: 200000 }, budget: { usd: 12.345678901, period: month } }
prices: prices.yaml
`;

const prices = `
openai/gpt-mock-mini:
  - { from: 2026-01-01, input: 0.15, cached_input: 0.075, output: 0.60 }
anthropic/claude-mock:
  - { from: 2026-01-01, input: 3.000001, cached_input: 0.30, output: 15.0000007 }
`;

/** Starts both. */
export async function startRouter(binary) {
  const folder = await mkdtemp(join(tmpdir(), "llm-router-ui-"));
  const [clients, admin, mock] = await freePorts(3);
  await writeFile(join(folder, "llm-router.yaml"), config(clients, admin, mock));
  await writeFile(join(folder, "prices.yaml"), prices);
  const environment = { ...process.env, API_KEY_SALT: "salt-0123456789abcdef", SECRET_KEY: "0123456789abcdef0123456789abcdef" };
  const run = (...args) => {
    const child = spawn(binary, args, { cwd: folder, env: environment, stdio: ["ignore", "ignore", "pipe"] });
    child.log = "";
    child.stderr.on("data", (chunk) => (child.log += chunk));
    child.ended = new Promise((done) => child.on("exit", done));
    return child;
  };
  const router = new Router(folder, clients, admin, mock, run);
  await router.startMock();
  await router.start();
  return router;
}

class Router {
  constructor(folder, clients, admin, mock, run) {
    Object.assign(this, { folder, run, mock, clients: `http://127.0.0.1:${clients}`, admin: `http://127.0.0.1:${admin}` });
  }

  async start() {
    this.server = this.run("serve", "--config", "llm-router.yaml");
    await eventually("the router is up", async () => (await fetch(`${this.admin}/readyz`)).ok)
      .catch((error) => { throw new Error(`${error.message}\n${this.server.log}`); });
  }

  async startMock() {
    this.provider = this.run("mock", "--listen", `127.0.0.1:${this.mock}`);
    await eventually("the mock is up", async () => (await fetch(`http://127.0.0.1:${this.mock}/v1/models`)).status > 0);
  }

  async end(child) {
    child.kill("SIGTERM");
    await child.ended;
  }

  async stop() {
    await Promise.all([this.end(this.server), this.end(this.provider)]);
    await rm(this.folder, { recursive: true });
  }

  /** What the admin API answers, as text. */
  async api(path, { method = "GET", body, key = ROOT } = {}) {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const answer = await fetch(this.admin + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text;
  }

  /** A chat completion through the router. */
  chat(model, { key = ROOT, content = "Hello!", user, headers = {} } = {}) {
    const body = JSON.stringify({ model, user, max_tokens: 100, messages: [{ role: "user", content }] });
    return fetch(`${this.clients}/v1/chat/completions`, { method: "POST", body,
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers } });
  }

  async breakConfig() {
    const file = join(this.folder, "llm-router.yaml");
    const good = await readFile(file, "utf8");
    await writeFile(file, good.replace("default_model: fast", "default_modle: fast"));
    return () => writeFile(file, good);
  }
}
