// The official SDKs for Node against a router that is already running: URL and KEY in the
// environment. Started by test_node.py.

import assert from "node:assert/strict";
import test from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const { URL: url, KEY: apiKey } = process.env;
const messages = [{ role: "user", content: "Tell me about the sea." }];
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });

test("openai chat, plain and streamed, says the same", async () => {
  const plain = await openai.chat.completions.create({ model: "fast", messages });
  const stream = await openai.chat.completions.create({ model: "fast", messages, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(text, plain.choices[0].message.content);
});

test("openai responses stream to their end", async () => {
  const stream = await openai.responses.create({ model: "fast", input: "The sea", stream: true });
  const types = [];
  for await (const event of stream) types.push(event.type);
  assert.equal(types[0], "response.created");
  assert.equal(types.at(-1), "response.completed");
});

test("openai embeddings, base64 by default", async () => {
  const answer = await openai.embeddings.create({ model: "mock-embed", input: "one" });
  assert.ok(answer.data[0].embedding.length > 1);
});

test("openai errors have their classes", async () => {
  const failing = (status) =>
    openai.chat.completions.create(
      { model: "fast", messages },
      { headers: { "x-mock-status": String(status) } },
    );
  await assert.rejects(failing(429), OpenAI.RateLimitError);
  await assert.rejects(failing(500), OpenAI.InternalServerError);
  const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});

test("openai hears of a stream that breaks", async () => {
  const stream = await openai.chat.completions.create(
    { model: "fast", messages, stream: true },
    { headers: { "x-mock-cut-after": "3" } },
  );
  await assert.rejects(async () => {
    for await (const chunk of stream) assert.ok(chunk.id);
  }, OpenAI.APIError);
});

test("anthropic messages, plain and streamed, say the same", async () => {
  const request = { model: "mock-claude", max_tokens: 200, messages };
  const plain = await anthropic.messages.create(request);
  const final = await anthropic.messages.stream(request).finalMessage();
  assert.equal(final.content[0].text, plain.content[0].text);
  assert.ok(final.usage.output_tokens > 0);
});

test("anthropic counts tokens and lists models", async () => {
  const counted = await anthropic.messages.countTokens({ model: "mock-claude", messages });
  assert.ok(counted.input_tokens > 0);
  const ids = [];
  for await (const model of anthropic.models.list()) ids.push(model.id);
  assert.ok(ids.includes("mock/mock-claude"));
});

test("anthropic errors have their classes", async () => {
  const failing = (status) =>
    anthropic.messages.create(
      { model: "mock-claude", max_tokens: 9, messages },
      { headers: { "x-mock-status": String(status) } },
    );
  await assert.rejects(failing(404), Anthropic.NotFoundError);
  await assert.rejects(failing(529), Anthropic.InternalServerError);
});
