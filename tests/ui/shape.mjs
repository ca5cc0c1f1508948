// Every page: no errors in the console, accessible in light and dark, usable on a phone.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { test } from "node:test";

import { ROOT, TEAM } from "./router.mjs";
import { close, loaded, open, stage } from "./stage.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const PAGES = ["overview", "cost?range=all", "requests", "rules", "rules/new", "explain", "providers", "keys", "audit", "config"];

async function everyPage(page, check) {
  const requests = JSON.parse(await stage.router.api("/api/v1/requests?limit=1"));
  for (const path of [...PAGES, `requests/${requests.items[0].id}`]) {
    await page.goto(page.url().replace(/#.*/, `#/${path}`));
    await loaded(page);
    await check(path);
  }
}

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing on any page, ${colorScheme}`, async () => {
    const page = await open("overview", { colorScheme });
    await loaded(page);
    await page.evaluate(axe);
    await everyPage(page, async (path) => {
      const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
      const told = found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`);
      assert.deepEqual(told, [], `${path}, ${colorScheme}`);
    });
    await close(page);
  });
}

test("a phone needs no scrolling to the side", async () => {
  const page = await open("overview", { viewport: { width: 360, height: 740 } });
  await everyPage(page, async (path) => {
    const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= seen, `${path} is ${wide} wide`);
  });
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("navigation").getByRole("link", { name: "Cost" }).click();
  await page.getByRole("heading", { name: "Cost", exact: true }).waitFor();
  await close(page);
});

test("no word is broken in its middle at 1280 pixels", async () => {
  const page = await open("overview", { viewport: { width: 1280, height: 720 } });
  await everyPage(page, async (path) => {
    const broken = await page.evaluate(() => {
      const found = [];
      const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {
        const node = texts.currentNode;
        // Ids and code may be longer than any line.
        if (node.parentElement.closest("code, pre, .mono, .loading, textarea")) continue;
        for (const word of node.data.matchAll(/[\p{L}\p{N}]{2,30}/gu)) {
          const range = document.createRange();
          range.setStart(node, word.index);
          range.setEnd(node, word.index + word[0].length);
          const lines = new Set([...range.getClientRects()].filter((one) => one.width > 0).map((one) => Math.round(one.top)));
          if (lines.size > 1) found.push(word[0]);
        }
      }
      return found;
    });
    assert.deepEqual(broken, [], path);
    const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= seen, `${path} is ${wide} wide`);
  });
  await close(page);
});

test("dialogs fit 720 pixels of height, with their buttons in sight", async () => {
  const page = await open("keys", { viewport: { width: 1280, height: 720 } });
  await loaded(page);
  await page.getByRole("button", { name: "New key" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  const boxes = [await dialog.boundingBox()];
  for (const name of ["Cancel", "Create key"]) boxes.push(await dialog.getByRole("button", { name }).boundingBox());
  for (const box of boxes) assert.ok(box.y >= 0 && box.y + box.height <= 720, JSON.stringify(box));
  await close(page);
});

test("a failing deployment and refusals are told on the overview", async () => {
  for (let i = 0; i < 6; i++) await stage.router.chat("fast", { headers: { "x-mock-status": "503" } });
  const page = await open("overview");
  await page.locator(".problems").getByText(/of the requests of the last 60 seconds failed/).waitFor();
  for (const name of ["Failures", "Refused", "Client errors"]) await page.locator("dt", { hasText: name }).waitFor();
  await close(page);
});

test("the page is guarded, cached by its content, and never framed", async () => {
  const at = stage.router.admin;
  const first = await fetch(`${at}/`);
  const policy = first.headers.get("content-security-policy");
  for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) assert.ok(policy.includes(part), policy);
  assert.deepEqual(["x-content-type-options", "x-frame-options", "referrer-policy"].map((name) => first.headers.get(name)), ["nosniff", "DENY", "no-referrer"]);
  const again = await fetch(`${at}/ui/main.js`, { headers: { "if-none-match": (await fetch(`${at}/ui/main.js`)).headers.get("etag") } });
  assert.equal(again.status, 304);
  const missing = await fetch(`${at}/ui/../Cargo.toml`);
  assert.notEqual(missing.status, 200);
  const onClientsPort = await fetch(`${stage.router.clients}/`);
  assert.ok((await onClientsPort.text()).includes("/ui/main.js"));
});

test("a role that is too low gets a clear message", async () => {
  const page = await open("cost", { key: TEAM, expects: [403] });
  await loaded(page);
  const told = await page.evaluate(async () => {
    const { read } = await import("/ui/api.js");
    const { failure } = await import("/ui/parts.js");
    return read("/api/v1/keys").catch((error) => failure(error).textContent);
  });
  assert.match(told, /role viewer or above.*higher role/);
  assert.ok(!told.includes(ROOT));
  await close(page);
});
