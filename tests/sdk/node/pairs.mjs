// The official SDKs for Node against every provider's format. Writes a JSON line for each pair and
// feature; started by test_pairs.py, with URL and KEY of a router and MOCK, the mock behind it.

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const { URL: url, KEY: apiKey, MOCK: mock } = process.env;
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PROVIDERS = { openai: "gpt-5", anthropic: "claude-sonnet-4-5", gemini: "gemini-3-pro" };
const SEA = "Tell me about the sea.";
const name = "get_weather";
const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const openai = new OpenAI({
  baseURL: `${url}/v1`,
  apiKey,
  maxRetries: 0,
  defaultHeaders: { "x-sdk": "openai" },
});
const anthropic = new Anthropic({
  baseURL: url,
  apiKey,
  maxRetries: 0,
  defaultHeaders: { "x-sdk": "anthropic" },
});

// Each client: how it is asked, and what it holds afterwards.
const chat = {
  name: "OpenAI chat",
  sdk: OpenAI,
  finishes: { end: "stop", tools: "tool_calls" },
  user: (text, image) => [
    {
      role: "user",
      content: [
        { type: "text", text },
        ...(image ? [{ type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } }] : []),
      ],
    },
  ],
  results: (calls) => calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: "sunny" })),
  body: (model, messages, { tools, structured, think }) => ({
    model,
    messages,
    ...(tools && { tools: [{ type: "function", function: { name, parameters: schema } }] }),
    ...(tools === "required" && { tool_choice: "required" }),
    ...(structured && {
      response_format: { type: "json_schema", json_schema: { name: "place", schema, strict: true } },
    }),
    ...(think && { reasoning_effort: "low" }),
  }),
  async ask(body, streamed, headers) {
    if (!streamed) {
      const { data, response } = await openai.chat.completions.create(body, { headers }).withResponse();
      return { ...this.held(data), headers: response.headers };
    }
    const options = { ...body, stream_options: { include_usage: true } };
    return this.held(await openai.chat.completions.stream(options, { headers }).finalChatCompletion());
  },
  held({ choices: [{ message, finish_reason }], usage }) {
    const { parsed, ...turn } = message;
    for (const call of turn.tool_calls ?? []) delete call.function.parsed_arguments;
    return {
      text: message.content ?? "",
      thoughts: message.reasoning_content ?? "",
      calls: (message.tool_calls ?? []).map(({ id, function: f }) => ({
        id,
        name: f.name,
        input: JSON.parse(f.arguments),
      })),
      finish: finish_reason,
      usage: [usage.prompt_tokens, usage.completion_tokens],
      turn: [turn],
    };
  },
  async firstText(body, headers) {
    const stream = await openai.chat.completions.create({ ...body, stream: true }, { headers });
    for await (const chunk of stream) if (chunk.choices[0]?.delta?.content) return stream.controller;
  },
};

const responses = {
  ...chat,
  name: "OpenAI responses",
  finishes: { end: "completed", tools: "completed" },
  user: (text, image) => [
    {
      role: "user",
      content: [
        { type: "input_text", text },
        ...(image
          ? [{ type: "input_image", image_url: `data:image/png;base64,${PIXEL}`, detail: "auto" }]
          : []),
      ],
    },
  ],
  results: (calls) =>
    calls.map(({ id }) => ({ type: "function_call_output", call_id: id, output: "sunny" })),
  body: (model, input, { tools, structured, think }) => ({
    model,
    input,
    ...(tools && { tools: [{ type: "function", name, parameters: schema, strict: true }] }),
    ...(tools === "required" && { tool_choice: "required" }),
    ...(structured && {
      text: { format: { type: "json_schema", name: "place", schema, strict: true } },
    }),
    ...(think && {
      reasoning: { effort: "low", summary: "auto" },
      include: ["reasoning.encrypted_content"],
      store: false,
    }),
  }),
  async ask(body, streamed, headers) {
    if (!streamed) {
      const { data, response } = await openai.responses.create(body, { headers }).withResponse();
      return { ...this.held(data), headers: response.headers };
    }
    return this.held(await openai.responses.stream(body, { headers }).finalResponse());
  },
  held({ output, output_text, status, usage }) {
    const turn = output.map(({ parsed_arguments, ...item }) => item);
    for (const item of turn) for (const part of item.content ?? []) delete part.parsed;
    return {
      text: output_text,
      thoughts: output.flatMap((item) => item.summary ?? []).map((part) => part.text).join(""),
      calls: output
        .filter((item) => item.type === "function_call")
        .map((item) => ({ id: item.call_id, name: item.name, input: JSON.parse(item.arguments) })),
      finish: status,
      usage: [usage.input_tokens, usage.output_tokens],
      turn,
    };
  },
  async firstText(body, headers) {
    const stream = await openai.responses.create({ ...body, stream: true }, { headers });
    for await (const event of stream)
      if (event.type === "response.output_text.delta") return stream.controller;
  },
};

const messages = {
  name: "Anthropic messages",
  sdk: Anthropic,
  finishes: { end: "end_turn", tools: "tool_use" },
  user: (text, image) => [
    {
      role: "user",
      content: [
        { type: "text", text },
        ...(image
          ? [{ type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } }]
          : []),
      ],
    },
  ],
  results: (calls) => [
    {
      role: "user",
      content: calls.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "sunny" })),
    },
  ],
  body: (model, talk, { tools, structured, think }) => ({
    model,
    max_tokens: 8000,
    messages: talk,
    ...(tools && { tools: [{ name, input_schema: schema }] }),
    ...(tools === "required" && { tool_choice: { type: "any" } }),
    ...(structured && { output_config: { format: { type: "json_schema", schema } } }),
    ...(think && { thinking: { type: "enabled", budget_tokens: 2048 } }),
  }),
  async ask(body, streamed, headers) {
    if (!streamed) {
      const { data, response } = await anthropic.messages.create(body, { headers }).withResponse();
      return { ...this.held(data), headers: response.headers };
    }
    return this.held(await anthropic.messages.stream(body, { headers }).finalMessage());
  },
  held({ content, stop_reason, usage }) {
    const of = (type) => content.filter((block) => block.type === type);
    const cached = (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0);
    return {
      text: of("text").map((block) => block.text).join(""),
      thoughts: of("thinking").map((block) => block.thinking).join(""),
      calls: of("tool_use"),
      finish: stop_reason,
      usage: [usage.input_tokens + cached, usage.output_tokens],
      turn: [{ role: "assistant", content }],
    };
  },
  async firstText(body, headers) {
    const stream = await anthropic.messages.create({ ...body, stream: true }, { headers });
    for await (const event of stream)
      if (event.type === "content_block_delta") return stream.controller;
  },
};

class Pair {
  constructor(client, provider) {
    Object.assign(this, { client, provider, model: `${provider}/${PROVIDERS[provider]}` });
    this.dropped = new Set();
  }

  async ask(talk, { stream = false, headers = {}, ...more } = {}) {
    const body = this.client.body(this.model, talk, more);
    const answer = await this.client.ask(body, stream, headers);
    const dropped = answer.headers?.get("x-llm-router-dropped");
    for (const name of dropped?.split(", ") ?? []) this.dropped.add(name);
    return answer;
  }

  sea(image) {
    return this.client.user(SEA, image);
  }

  finished(answer, how) {
    assert.equal(answer.finish, this.client.finishes[how]);
    assert.ok(Math.min(...answer.usage) > 0);
  }
}

const both = [false, true];
const FEATURES = {
  async plain(pair) {
    const answer = await pair.ask(pair.sea());
    pair.finished(answer, "end");
    assert.ok(answer.text.length > 20);
  },
  async stream(pair) {
    const whole = await pair.ask(pair.sea());
    const streamed = await pair.ask(pair.sea(), { stream: true });
    pair.finished(streamed, "end");
    assert.equal(streamed.text, whole.text);
    assert.deepEqual(streamed.usage, whole.usage);
    const headers = { "x-mock-split": "5" };
    assert.equal((await pair.ask(pair.sea(), { stream: true, headers })).text, whole.text);
  },
  async "one tool"(pair) {
    for (const stream of both) {
      const answer = await pair.ask(pair.sea(), { tools: "required", stream });
      pair.finished(answer, "tools");
      assert.equal(answer.calls.length, 1);
      const [call] = answer.calls;
      assert.ok(call.id && call.name === name && typeof call.input.city === "string");
    }
  },
  async "parallel tools"(pair) {
    for (const stream of both) {
      const headers = { "x-mock-tools": "3" };
      const answer = await pair.ask(pair.sea(), { tools: "auto", stream, headers });
      pair.finished(answer, "tools");
      assert.equal(new Set(answer.calls.map((call) => call.id)).size, 3);
    }
  },
  async "tool results"(pair) {
    for (const stream of both) {
      const headers = { "x-mock-tools": "2" };
      const answer = await pair.ask(pair.sea(), { tools: "auto", stream, headers });
      const talk = [...pair.sea(), ...answer.turn, ...pair.client.results(answer.calls)];
      const final = await pair.ask(talk, { tools: "auto", stream });
      pair.finished(final, "end");
      assert.ok(final.text && final.calls.length === 0);
    }
  },
  async image(pair) {
    pair.finished(await pair.ask(pair.sea(true)), "end");
  },
  async "structured output"(pair) {
    for (const stream of both) {
      const answer = await pair.ask(pair.sea(), { structured: true, stream });
      assert.equal(typeof JSON.parse(answer.text).city, "string");
    }
  },
  async "thinking with tools, two turns"(pair) {
    for (const stream of both) {
      const headers = { "x-mock-tools": "2" };
      const answer = await pair.ask(pair.sea(), { tools: "auto", think: true, stream, headers });
      assert.equal(answer.calls.length, 2);
      // OpenAI's chat counts thoughts and never shows them.
      const hidden = pair.provider === "openai" && pair.client !== responses;
      assert.equal(answer.thoughts === "", hidden);
      const talk = [...pair.sea(), ...answer.turn, ...pair.client.results(answer.calls)];
      const final = await pair.ask(talk, { tools: "auto", think: true, stream });
      pair.finished(final, "end");
      assert.ok(final.text);
    }
  },
  async errors(pair) {
    const { sdk } = pair.client;
    for (const [status, kind] of [
      [400, sdk.BadRequestError],
      // The provider refused the router's credential, not the client's.
      [401, sdk.InternalServerError],
      [403, sdk.InternalServerError],
      [404, sdk.NotFoundError],
      [422, sdk.UnprocessableEntityError],
      [429, sdk.RateLimitError],
      [500, sdk.InternalServerError],
      [529, sdk.InternalServerError],
    ]) {
      for (const stream of both) {
        const headers = { "x-mock-status": String(status) };
        await assert.rejects(pair.ask(pair.sea(), { stream, headers }), (error) => {
          assert.ok(error instanceof kind, `${status}: ${error?.constructor?.name}`);
          const refused = status === 401 || status === 403;
          assert.equal(error.status, refused ? 502 : status);
          assert.match(error.message, refused ? /refused the router's credential/ : /The mock failed/);
          return true;
        });
      }
    }
    for (const control of ["x-mock-cut-after", "x-mock-error-after"]) {
      const broken = pair.ask(pair.sea(), { stream: true, headers: { [control]: "6" } });
      await assert.rejects(broken);
    }
  },
  async cancel(pair) {
    const headers = { "x-mock-token-delay": "500ms", "x-mock-tokens": "2000" };
    const body = pair.client.body(pair.model, pair.sea(), {});
    const controller = await pair.client.firstText(body, headers);
    assert.ok(controller);
    controller.abort();
    const deadline = Date.now() + 20_000;
    while ((await openStreams()) > 0) {
      assert.ok(Date.now() < deadline, "the provider's stream was not ended");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
};

async function openStreams() {
  return (await (await fetch(`${mock}/mock/meter`)).json()).open_streams;
}

for (const client of [chat, responses, messages]) {
  for (const provider of Object.keys(PROVIDERS)) {
    const pair = new Pair(client, provider);
    for (const [feature, run] of Object.entries(FEATURES)) {
      const line = { client: client.name, provider, feature };
      pair.dropped.clear();
      try {
        await run(pair);
        const without = [...pair.dropped].sort().map((name) => `without \`${name}\``);
        line.cell = ["pass", ...without].join(" ");
      } catch (error) {
        const refused = error instanceof client.sdk.BadRequestError;
        const param = error?.error?.param ?? error?.param;
        line.cell = refused && param ? `400: \`${param}\`` : "FAIL";
        line.why = `${error?.stack ?? error}`;
      }
      console.log(JSON.stringify(line));
    }
  }
}
