"""The official Python SDKs of three formats behind one face: what they are asked, and what they
hold afterwards."""

import dataclasses
import json

import anthropic
import openai

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOOL = "get_weather"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@dataclasses.dataclass
class Answer:
    text: str
    thoughts: str
    calls: list  # of (id, name, arguments)
    finish: str
    usage: tuple
    turn: list  # what goes back in the next turn
    headers: dict


class Chat:
    name = "OpenAI chat"
    errors = openai
    finishes = {"end": "stop", "tools": "tool_calls"}

    def __init__(self, url, key):
        headers = {"x-sdk": "openai"}
        url = f"{url}/v1"
        self.sdk = openai.OpenAI(base_url=url, api_key=key, max_retries=0, default_headers=headers)

    def user(self, text, image=False):
        url = f"data:image/png;base64,{PIXEL}"
        parts = [{"type": "text", "text": text}]
        parts += [{"type": "image_url", "image_url": {"url": url}}] if image else []
        return [{"role": "user", "content": parts}]

    def results(self, calls):
        return [{"role": "tool", "tool_call_id": id, "content": "sunny"} for id, *_ in calls]

    def arguments(self, model, talk, tools=None, schema=None, think=False, **controls):
        arguments = dict(model=model, messages=talk, extra_headers=controls)
        if tools:
            function = {"name": TOOL, "parameters": SCHEMA}
            arguments.update(tools=[{"type": "function", "function": function}])
        if tools == "required":
            arguments.update(tool_choice="required")
        if schema:
            named = {"name": "place", "schema": SCHEMA, "strict": True}
            arguments.update(response_format={"type": "json_schema", "json_schema": named})
        if think:
            arguments.update(reasoning_effort="low")
        return arguments

    def ask(self, *asked, stream=False, **more):
        arguments = self.arguments(*asked, **more)
        if not stream:
            raw = self.sdk.chat.completions.with_raw_response.create(**arguments)
            return self.held(raw.parse(), raw.headers)
        arguments["stream_options"] = {"include_usage": True}
        with self.sdk.chat.completions.stream(**arguments) as events:
            for _ in events:
                pass
            return self.held(events.get_final_completion(), {})

    def held(self, completion, headers):
        choice, usage = completion.choices[0], completion.usage
        message = choice.message
        calls = [
            (call.id, call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or []
        ]
        turn = message.model_dump(exclude_none=True)
        turn.pop("parsed", None)
        for call in turn.get("tool_calls", []):
            call["function"].pop("parsed_arguments", None)
        return Answer(
            text=message.content or "",
            thoughts=getattr(message, "reasoning_content", None) or "",
            calls=calls,
            finish=choice.finish_reason,
            usage=(usage.prompt_tokens, usage.completion_tokens),
            turn=[turn],
            headers=headers,
        )

    def first_text(self, *asked, **more):
        stream = self.sdk.chat.completions.create(**self.arguments(*asked, **more), stream=True)
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                return stream.response


class Responses(Chat):
    name = "OpenAI responses"
    finishes = {"end": "completed", "tools": "completed"}

    def user(self, text, image=False):
        url = f"data:image/png;base64,{PIXEL}"
        parts = [{"type": "input_text", "text": text}]
        parts += [{"type": "input_image", "image_url": url, "detail": "auto"}] if image else []
        return [{"role": "user", "content": parts}]

    def results(self, calls):
        return [
            {"type": "function_call_output", "call_id": id, "output": "sunny"} for id, *_ in calls
        ]

    def arguments(self, model, talk, tools=None, schema=None, think=False, **controls):
        arguments = dict(model=model, input=talk, extra_headers=controls)
        if tools:
            function = {"name": TOOL, "parameters": SCHEMA, "strict": True}
            arguments.update(tools=[{"type": "function", **function}])
        if tools == "required":
            arguments.update(tool_choice="required")
        if schema:
            named = {"name": "place", "schema": SCHEMA, "strict": True}
            arguments.update(text={"format": {"type": "json_schema", **named}})
        if think:
            arguments.update(reasoning={"effort": "low", "summary": "auto"})
            arguments.update(include=["reasoning.encrypted_content"], store=False)
        return arguments

    def ask(self, *asked, stream=False, **more):
        arguments = self.arguments(*asked, **more)
        if not stream:
            raw = self.sdk.responses.with_raw_response.create(**arguments)
            return self.held(raw.parse(), raw.headers)
        with self.sdk.responses.stream(**arguments) as events:
            for _ in events:
                pass
            return self.held(events.get_final_response(), {})

    def held(self, response, headers):
        items = [item.model_dump(exclude_none=True) for item in response.output]
        for item in items:
            item.pop("parsed_arguments", None)
            for part in item.get("content", []):
                part.pop("parsed", None)
        summaries = [part["text"] for item in items for part in item.get("summary", [])]
        calls = [
            (item["call_id"], item["name"], json.loads(item["arguments"]))
            for item in items
            if item["type"] == "function_call"
        ]
        return Answer(
            text=response.output_text,
            thoughts="".join(summaries),
            calls=calls,
            finish=response.status,
            usage=(response.usage.input_tokens, response.usage.output_tokens),
            turn=items,
            headers=headers,
        )

    def first_text(self, *asked, **more):
        stream = self.sdk.responses.create(**self.arguments(*asked, **more), stream=True)
        for event in stream:
            if event.type == "response.output_text.delta":
                return stream.response
            if event.type == "error":
                raise openai.APIError(event.message, request=stream.response.request, body=None)


class Messages:
    name = "Anthropic messages"
    errors = anthropic
    finishes = {"end": "end_turn", "tools": "tool_use"}

    def __init__(self, url, key):
        headers = {"x-sdk": "anthropic"}
        self.sdk = anthropic.Anthropic(
            base_url=url, api_key=key, max_retries=0, default_headers=headers
        )

    def user(self, text, image=False):
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        parts = [{"type": "text", "text": text}]
        parts += [{"type": "image", "source": source}] if image else []
        return [{"role": "user", "content": parts}]

    def results(self, calls):
        blocks = [
            {"type": "tool_result", "tool_use_id": id, "content": "sunny"} for id, *_ in calls
        ]
        return [{"role": "user", "content": blocks}]

    def arguments(self, model, talk, tools=None, schema=None, think=False, **controls):
        arguments = dict(model=model, messages=talk, max_tokens=8000, extra_headers=controls)
        if tools:
            arguments.update(tools=[{"name": TOOL, "input_schema": SCHEMA}])
        if tools == "required":
            arguments.update(tool_choice={"type": "any"})
        if schema:
            arguments.update(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
        if think:
            arguments.update(thinking={"type": "enabled", "budget_tokens": 2048})
        return arguments

    def ask(self, *asked, stream=False, **more):
        arguments = self.arguments(*asked, **more)
        if not stream:
            raw = self.sdk.messages.with_raw_response.create(**arguments)
            return self.held(raw.parse(), raw.headers)
        with self.sdk.messages.stream(**arguments) as events:
            return self.held(events.get_final_message(), {})

    def held(self, message, headers):
        blocks = message.content
        usage = message.usage
        read = usage.cache_read_input_tokens or 0
        written = usage.cache_creation_input_tokens or 0
        return Answer(
            text="".join(block.text for block in blocks if block.type == "text"),
            thoughts="".join(block.thinking for block in blocks if block.type == "thinking"),
            calls=[(b.id, b.name, b.input) for b in blocks if b.type == "tool_use"],
            finish=message.stop_reason,
            usage=(usage.input_tokens + read + written, usage.output_tokens),
            turn=[{"role": "assistant", "content": blocks}],
            headers=headers,
        )

    def first_text(self, *asked, **more):
        stream = self.sdk.messages.create(**self.arguments(*asked, **more), stream=True)
        for event in stream:
            if event.type == "content_block_delta":
                return stream.response


CLIENTS = [Chat, Responses, Messages]
