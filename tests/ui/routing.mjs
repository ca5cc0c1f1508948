// The list of requests and single ones; rules created on the page; explanations.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually, HOSTILE } from "./router.mjs";
import { close, loaded, open, stage } from "./stage.mjs";

test("a request that failed over shows its attempts, and a hostile name stays a text", async () => {
  const answer = await stage.router.chat("fast", { user: HOSTILE, headers: { "x-mock-status": "503" } });
  const id = answer.headers.get("x-request-id");
  const page = await open(`requests?user=${encodeURIComponent(HOSTILE)}`);
  await loaded(page);
  await page.getByText(HOSTILE).first().waitFor();
  const link = page.locator(`a[href$='${id}']`);
  await eventually("the request is listed", async () => {
    if (await link.count()) return true;
    await page.getByRole("button", { name: "Refresh" }).click();
    return false;
  });
  await link.click();
  await page.getByRole("heading", { name: "Attempts" }).waitFor();
  assert.equal(await page.locator(".timeline li").count(), 2);
  await page.getByText("1. openai / gpt-mock-mini").waitFor();
  await page.getByText("2. anthropic / claude-mock").waitFor();
  await close(page);
});

test("pages of requests follow each other by cursor", async () => {
  await Promise.all(Array.from({ length: 55 }, () => stage.router.chat("fast")));
  await eventually("more than a page", async () => JSON.parse(await stage.router.api("/api/v1/requests")).next_cursor);
  const page = await open("requests");
  await page.getByRole("button", { name: "Show 50 more" }).click();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length > 50);
  await close(page);
});

test("a rule created on the page decides a request, is edited against its ETag, and deleted", async () => {
  const { router } = stage;
  const page = await open("rules/new", { expects: [400, 412] });
  await page.getByLabel("Name").fill("poems");
  await page.getByLabel("Priority").fill("3");
  await page.getByLabel("When", { exact: true }).fill('{"regex": "poem"}');
  await page.getByLabel("Add condition").selectOption("owner");
  const conditions = JSON.parse(await page.getByLabel("When", { exact: true }).inputValue());
  assert.deepEqual(conditions, { regex: "poem", owner: "team-a" });
  await page.getByLabel("When", { exact: true }).fill('{"regex": "("}');
  await page.getByLabel("Then", { exact: true }).fill('{"use_model": "strong"}');
  await page.getByRole("button", { name: "Create rule" }).click();
  await page.locator(".failure").getByText("when.regex").first().waitFor();
  await page.getByLabel("When", { exact: true }).fill('{"regex": "(?i)poem"}');
  await page.getByRole("button", { name: "Create rule" }).click();
  await page.getByRole("link", { name: "poems" }).waitFor();
  const answer = await router.chat("auto", { content: "A poem, please" });
  assert.deepEqual([answer.headers.get("x-llm-router-rule"), answer.headers.get("x-llm-router-provider")], ["poems", "anthropic"]);

  await page.goto(page.url().replace(/#.*/, "#/explain"));
  await page.getByLabel("Request body").fill(JSON.stringify({ model: "auto", messages: [{ role: "user", content: "A poem, please" }] }));
  await page.getByRole("button", { name: "Explain" }).click();
  assert.equal(await page.locator("[data-decision='rule']").textContent(), "poems");
  assert.equal(await page.locator("[data-decision='target']").textContent(), "anthropic / claude-mock");
  await page.getByRole("heading", { name: "Complexity" }).waitFor();

  await page.goto(page.url().replace(/#.*/, "#/rules"));
  await page.getByRole("link", { name: "poems" }).click();
  await page.getByLabel("Priority").fill("4");
  const { items } = JSON.parse(await router.api("/api/v1/router/rules"));
  const rule = items.find((one) => one.name === "poems");
  await router.api(`/api/v1/router/rules/${rule.id}`, { method: "PUT", body: { name: "poems", priority: 7, when: rule.when, then: rule.then } });
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("changed this in the meantime").waitFor();
  await page.getByRole("button", { name: "Retry" }).click();
  await page.waitForFunction(() => document.querySelector("[name=priority]")?.value === "7");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("heading", { name: "Rules" }).waitFor();
  await page.getByRole("link", { name: "code-goes-to-strong" }).click();
  await page.getByText("defined in the configuration file").waitFor();
  assert.equal(await page.getByRole("button", { name: "Save" }).count(), 0);
  await close(page);
});
