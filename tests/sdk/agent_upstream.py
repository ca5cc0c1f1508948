"""Scripted providers for agents: each answers every turn with two tool calls until enough turns
have passed, and refuses a history in which a call lacks its own result."""

import http.server
import json
import threading

TURNS = 30
SAYS = "Let me look."
DONE = "All done."


class Refused(Exception):
    pass


def need(condition, why):
    if not condition:
        raise Refused(why)


class Chat:
    """OpenAI chat completions of a careless server: both calls have one id, and come in pieces."""

    paths = ("/v1/chat/completions",)

    def turns(self, body):
        turn, waiting = 0, {}
        for message in body["messages"]:
            if message["role"] == "tool":
                number = waiting.pop(message["tool_call_id"], None)
                need(number is not None, f"no call {message['tool_call_id']}")
                need(message["content"] == f"result {number}", f"{message} of call {number}")
                continue
            need(not waiting, f"no results of {waiting}")
            calls = message.get("tool_calls") or []
            turn += message["role"] == "assistant"
            for call in calls:
                need(call["id"] not in waiting, f"{call['id']} twice")
                waiting[call["id"]] = json.loads(call["function"]["arguments"])["n"]
        need(not waiting, f"no results of {waiting}")
        return turn

    def answer(self, turn, stream):
        calls = [(n, json.dumps({"n": 2 * turn + n})) for n in (0, 1)]
        done = turn >= TURNS
        message = {"role": "assistant", "content": DONE if done else SAYS}
        if not done:
            message["tool_calls"] = [
                {"id": "x", "type": "function", "function": {"name": "look_up", "arguments": text}}
                for _, text in calls
            ]
        head = {"id": f"chatcmpl-{turn}", "created": 1, "model": "m"}
        finish = "stop" if done else "tool_calls"
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        if not stream:
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        deltas = [{"role": "assistant", "content": DONE if done else SAYS}]
        if not done:
            for n, text in calls:
                pieces = [
                    {"function": {"name": "look_", "arguments": ""}},
                    {"id": "x", "function": {"name": "up"}},
                    {"function": {"arguments": text[:3]}},
                    {"function": {"arguments": text[3:]}},
                ]
                deltas += [{"tool_calls": [{"index": n, **piece}]} for piece in pieces]
        chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
        events = [{**head, "object": "chat.completion.chunk", "choices": [c]} for c in chunks]
        return [*events, {**head, "choices": [], "usage": usage}, "[DONE]"]


class Messages:
    """Anthropic messages, with threads."""

    paths = ("/v1/messages",)

    def __init__(self):
        self.threads = {}

    def turns(self, body):
        messages = body["messages"]
        thread = body.get("thread")
        if thread and thread["type"] == "continue":
            messages = self.threads[thread["previous_message_id"]] + messages
        self.history = messages if thread else None
        turn, waiting, seen = 0, {}, set()
        for message in messages:
            blocks = message["content"]
            blocks = [] if isinstance(blocks, str) else blocks
            results = [block for block in blocks if block["type"] == "tool_result"]
            need(message["role"] == "user" or not waiting, f"no results of {waiting}")
            for block in results:
                number = waiting.pop(block["tool_use_id"], None)
                text = block["content"]
                text = text if isinstance(text, str) else text[0]["text"]
                need(text == f"result {number}", f"{block} of call {number}")
            need(not waiting, f"no results of {waiting}")
            turn += message["role"] == "assistant"
            for block in blocks:
                if block["type"] == "tool_use":
                    need(block["id"] not in seen, f"{block['id']} twice")
                    seen.add(block["id"])
                    waiting[block["id"]] = block["input"]["n"]
        need(not waiting, f"no results of {waiting}")
        return turn

    def answer(self, turn, stream):
        done = turn >= TURNS
        content = [{"type": "text", "text": DONE if done else SAYS}]
        if not done:
            for n in (2 * turn, 2 * turn + 1):
                use = {"type": "tool_use", "id": f"toolu_{n}", "name": "look_up", "input": {"n": n}}
                content.append(use)
        reply = {"role": "assistant", "content": content}
        if self.history is not None:
            self.threads[f"msg_{turn}"] = [*self.history, reply]
        head = {"id": f"msg_{turn}", "type": "message", "role": "assistant", "model": "m"}
        stop = {"stop_reason": "end_turn" if done else "tool_use", "stop_sequence": None}
        usage = {"input_tokens": 5, "output_tokens": 7}
        if not stream:
            return {**head, "content": content, **stop, "usage": usage}
        start = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        events = [{"type": "message_start", "message": start}]
        for index, block in enumerate(content):
            empty, delta = {"text": ""}, {"type": "text_delta", "text": block.get("text")}
            if block["type"] == "tool_use":
                empty = {"input": {}}
                delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            events += [
                {"type": "content_block_start", "index": index, "content_block": {**block, **empty}},
                {"type": "content_block_delta", "index": index, "delta": delta},
                {"type": "content_block_stop", "index": index},
            ]
        events.append({"type": "message_delta", "delta": stop, "usage": usage})
        return [*events, {"type": "message_stop"}]


class Gemini:
    """Gemini, whose calls have no ids."""

    paths = (":generateContent", ":streamGenerateContent")

    def turns(self, body):
        turn, waiting = 0, []
        for content in body["contents"]:
            parts = content["parts"]
            results = [part["functionResponse"] for part in parts if "functionResponse" in part]
            need(len(results) == len(waiting), f"{len(results)} results of {waiting}")
            for number, result in zip(waiting, results):
                need(f"result {number}" in json.dumps(result), f"{result} of call {number}")
            turn += content["role"] == "model"
            waiting = [p["functionCall"]["args"]["n"] for p in parts if "functionCall" in p]
        need(not waiting, f"no results of {waiting}")
        return turn

    def answer(self, turn, stream):
        done = turn >= TURNS
        parts = [{"text": DONE if done else SAYS}]
        if not done:
            calls = [{"name": "look_up", "args": {"n": 2 * turn + n}} for n in (0, 1)]
            parts += [{"functionCall": call} for call in calls]
        candidate = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
        usage = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}
        # A proxy that numbers no answers: ids made of the answer's id repeat.
        answer = {"responseId": "r", "modelVersion": "m", "candidates": [candidate]}
        answer["usageMetadata"] = usage
        return [answer] if stream else answer


class Upstream:
    """Serves one of the providers above and counts the turns that it answered."""

    def __init__(self, provider):
        self.provider, self.answered, self.refusals, self.threads = provider, 0, [], 0
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                path = self.path.split("?")[0]
                try:
                    need(path.endswith(provider.paths), f"nothing at {path}")
                    turn = provider.turns(body)
                except (Refused, KeyError) as refused:
                    upstream.refusals.append(str(refused))
                    error = {"type": "invalid_request_error", "message": str(refused)}
                    return self.reply(400, "application/json", json.dumps({"error": error}))
                upstream.answered += 1
                upstream.threads += "thread" in body
                stream = body.get("stream") or "stream" in path
                answer = provider.answer(turn, stream)
                if not stream:
                    return self.reply(200, "application/json", json.dumps(answer))
                text = ""
                for event in answer:
                    if isinstance(event, dict) and "type" in event:
                        text += f"event: {event['type']}\n"
                    text += f"data: {event if event == '[DONE]' else json.dumps(event)}\n\n"
                self.reply(200, "text/event-stream", text)

            def reply(self, status, kind, text):
                data = text.encode()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
