// Takes pictures of pages while they are worked on: node look.mjs LLM_ROUTER FOLDER PAGE…
// A page may begin with `dark:`, `phone:`, and a role's key name with `as=`.

import { chromium } from "playwright-core";
import { HOSTILE, LOOKER, OPERATOR, ROOT, startRouter, TEAM } from "./router.mjs";

const [binary, folder, ...pages] = process.argv.slice(2);
const router = await startRouter(binary);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
try {
  for (let i = 0; i < 14; i++) {
    await router.chat(i % 3 ? "fast" : "strong", { user: i % 4 ? `user-${i % 3}` : undefined, key: i % 2 ? TEAM : ROOT });
  }
  await router.chat("auto", { content: "A segfault with a stack trace", user: HOSTILE });
  await router.chat("fast", { headers: { "x-mock-status": "503" } });
  await router.chat("openai/unpriced-model");
  await router.api("/api/v1/router/rules", { method: "POST", body: { name: "eu-to-fast", priority: 5, when: { header: { name: "x-region", equals: "eu" } }, then: { use_model: "fast" } } });
  await router.api("/api/v1/keys", { method: "POST", body: { name: "ci-runner", owner: "team-b", limits: { rpm: 60 }, budget: { usd: 0.5, period: "day" } } });
  await router.api("/api/v1/router/toggle", { method: "POST", body: { value: false, reason: "Provider incident 7", delay_seconds: 90 } });
  const keys = { root: ROOT, looker: LOOKER, oncall: OPERATOR, team: TEAM };
  for (const [at, asked] of pages.entries()) {
    const dark = asked.includes("dark:");
    const phone = asked.includes("phone:");
    const as = /as=(\w+):/.exec(asked)?.[1] ?? "root";
    const path = asked.replace(/^((dark|phone|as=\w+):)*/, "");
    const page = await browser.newPage({ colorScheme: dark ? "dark" : "light", viewport: phone ? { width: 360, height: 740 } : { width: 1280, height: 860 } });
    page.on("console", (message) => console.log(asked, message.type(), message.text()));
    page.on("pageerror", (error) => console.log(asked, error.stack));
    await page.addInitScript((key) => key && sessionStorage.setItem("llm-router-key", key), path === "sign-in" ? "" : keys[as]);
    await page.goto(`${router.admin}/#/${path}`);
    await page.waitForTimeout(asked.includes("overview") ? 4500 : 900);
    await page.screenshot({ path: `${folder}/${at}-${asked.replace(/[^a-z-]+/g, "_")}.png`, fullPage: true });
    await page.close();
  }
} finally {
  await browser.close();
  await router.stop();
}
