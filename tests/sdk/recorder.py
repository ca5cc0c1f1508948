"""A pass-through in front of the mock provider. It keeps what the router sent and has the SDK of
the provider's own company judge it."""

import collections.abc
import http.client
import http.server
import json
import threading
import types
import typing

import pydantic
import typing_extensions
from anthropic.types import message_create_params as anthropic_params
from google.genai import types as gemini
from openai.types.chat import completion_create_params as chat_params


def eager(kind, made):
    """A parameter type whose lists are checked at once, and which takes no unknown field: the
    SDKs' own say Iterable, which pydantic checks when somebody iterates."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if typing_extensions.is_typeddict(kind):
        if kind not in made:
            made[kind] = typing.Any  # what holds itself is not followed
            hints = typing_extensions.get_type_hints(kind, include_extras=False)
            wrap = lambda name: (
                typing_extensions.Required
                if name in kind.__required_keys__
                else typing_extensions.NotRequired
            )
            fields = {name: wrap(name)[eager(hint, made)] for name, hint in hints.items()}
            made[kind] = typing_extensions.TypedDict(kind.__name__, fields)
            made[kind].__pydantic_config__ = {"extra": "forbid"}
        return made[kind]
    if origin is collections.abc.Iterable or origin in (list, collections.abc.Sequence):
        return list[eager(inner[0], made)]
    if origin in (typing.Union, types.UnionType):
        # The classes of answers, which the SDKs take back too, are objects and not JSON.
        return typing.Union[tuple(eager(one, made) for one in inner if not is_answer(one))]
    if origin is typing.Annotated:
        return eager(inner[0], made)
    if origin is typing.Literal or kind in (str, int, float, bool, type(None)):
        return kind
    if origin is dict or kind in (object, typing.Any):
        return dict if origin is dict else typing.Any
    return None  # files and the like, which JSON has not


def is_answer(kind):
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def checker(params):
    return pydantic.TypeAdapter(eager(params, {}))


ANTHROPIC = checker(anthropic_params.MessageCreateParamsNonStreaming)
CHAT = checker(chat_params.CompletionCreateParamsNonStreaming)


def judge_gemini(body):
    """google-genai's own types, which refuse fields that they don't know."""
    request = body.get("generateContentRequest", body)
    known = {"model", "contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}
    assert set(request) <= known, set(request) - known
    for content in request["contents"]:
        gemini.Content.model_validate(content)
    if "systemInstruction" in request:
        gemini.Content.model_validate(request["systemInstruction"])
    for tool in request.get("tools", []):
        gemini.Tool.model_validate(tool)
    gemini.ToolConfig.model_validate(request.get("toolConfig", {}))
    gemini.GenerationConfig.model_validate(request.get("generationConfig", {}))


def judge(path, body, client):
    """Only what the router wrote itself; what a client wrote in the same format passes as it is."""
    if path.startswith("/v1beta/"):
        judge_gemini(body)
    elif path.endswith("/messages") and client != "anthropic":
        ANTHROPIC.validate_python({**body, "stream": False})
    elif path.endswith("/chat/completions") and client != "openai":
        CHAT.validate_python({**body, "stream": False})


class Recorder:
    def __init__(self, mock_port):
        self.bodies, self.complaints = [], []
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                recorder.take(self.path, body, self.headers["x-sdk"])
                upstream = http.client.HTTPConnection("127.0.0.1", mock_port)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                upstream.request("POST", self.path, body, headers)
                answer = upstream.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                try:
                    while piece := answer.read1(65536):
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                        self.wfile.flush()
                    self.wfile.write(b"0\r\n\r\n")
                except (OSError, http.client.HTTPException):
                    # The router hung up, or the mock did as it was told.
                    self.close_connection = True
                finally:
                    upstream.close()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, body, client):
        body = json.loads(body)
        self.bodies.append((path, body))
        try:
            judge(path, body, client)
        except (AssertionError, pydantic.ValidationError) as complaint:
            self.complaints.append(f"{path}: {complaint}: {json.dumps(body)[:2000]}")

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
