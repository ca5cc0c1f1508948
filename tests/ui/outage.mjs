// Outages of a provider, of the configuration and of the router itself.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually } from "./router.mjs";
import { close, open, stage } from "./stage.mjs";

test("an outage of a provider is shown until it is over", async () => {
  const { router } = stage;
  const page = await open();
  await page.getByText("All systems operational").waitFor();
  await router.end(router.provider);
  await eventually("the outage shows", async () => {
    await router.chat("fast");
    return (await page.locator(".problems").getByText("its circuit is open").count()) > 0;
  });
  await page.getByRole("cell", { name: "unhealthy" }).first().waitFor();
  await router.startMock();
  await eventually("it is over", async () => {
    // Each deployment has its own circuit, which closes after a successful request.
    await router.chat("fast");
    await router.chat("strong");
    return (await page.getByText("All systems operational").count()) > 0;
  }, 100);
  await close(page);
});

test("a rejected configuration is shown", async () => {
  const page = await open();
  const repair = await stage.router.breakConfig();
  await page.getByText("The configuration file was rejected").waitFor();
  await repair();
  await page.getByText("The configuration file was rejected").waitFor({ state: "detached" });
  await close(page);
});

test("a router that stops is reported, and the data on the page as outdated", async () => {
  const page = await open("overview", { expects: ["silence"] });
  await page.getByText("All systems operational").waitFor();
  await stage.router.end(stage.router.server);
  await page.getByText("The router is not responding.").waitFor();
  assert.match(await page.getByRole("alert").textContent(), /Showing data from .* ago/);
  await stage.router.start();
  await page.getByText("The router is not responding.").waitFor({ state: "hidden" });
  await close(page);
});
