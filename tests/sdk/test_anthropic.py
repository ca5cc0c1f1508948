"""The official Anthropic SDK against the router."""

import anthropic
import pytest

MESSAGES = [{"role": "user", "content": "Tell me about the sea."}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture(params=["api_key", "auth_token"])
def client(router, request):
    other = "auth_token" if request.param == "api_key" else "api_key"
    key = {request.param: router.key, other: None}
    return anthropic.Anthropic(base_url=router.url, max_retries=0, **key)


def ask(client, **changes):
    arguments = dict(model="mock-claude", max_tokens=200, messages=MESSAGES)
    return client.messages.create(**{**arguments, **changes})


def test_messages(client):
    answer = ask(client)
    assert answer.content[0].text and answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


def test_stream(client):
    with client.messages.stream(model="mock-claude", max_tokens=200, messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == ask(client).content[0].text
    assert final.usage.output_tokens > 0


def test_split_anywhere(client):
    with client.messages.stream(
        model="mock-claude",
        max_tokens=200,
        messages=MESSAGES,
        extra_headers={"x-mock-split": "5"},
    ) as stream:
        assert "".join(stream.text_stream) == ask(client).content[0].text


def test_tools(client):
    tools = dict(tools=[WEATHER], tool_choice={"type": "any"})
    answer = ask(client, **tools)
    call = next(block for block in answer.content if block.type == "tool_use")
    assert call.name == "get_weather" and "city" in call.input
    with client.messages.stream(
        model="mock-claude", max_tokens=200, messages=MESSAGES, **tools
    ) as stream:
        final = stream.get_final_message()
    assert any(block.type == "tool_use" and block.input for block in final.content)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    turn = [
        *MESSAGES,
        {"role": "assistant", "content": [block.model_dump() for block in answer.content]},
        {"role": "user", "content": [result]},
    ]
    assert ask(client, messages=turn, tools=[WEATHER]).content[0].type == "text"


def test_count_tokens(client):
    counted = client.messages.count_tokens(model="mock-claude", messages=MESSAGES)
    assert counted.input_tokens > 0


def test_models(client):
    ids = [model.id for model in client.models.list()]
    assert "mock/mock-claude" in ids
    assert client.models.retrieve("mock/mock-claude").id == "mock/mock-claude"


def test_wrong_key(router):
    client = anthropic.Anthropic(base_url=router.url, api_key="sk-wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as caught:
        ask(client)
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert caught.value.body["request_id"].startswith("req_")


@pytest.mark.parametrize(
    "status, error",
    [
        (400, anthropic.BadRequestError),
        (451, anthropic.APIStatusError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
def test_provider_errors(client, status, error):
    with pytest.raises(error) as caught:
        ask(client, extra_headers={"x-mock-status": str(status)})
    assert caught.value.status_code == status
    assert caught.value.body["type"] == "error"


def test_broken_stream(client):
    with pytest.raises(anthropic.APIStatusError) as caught:
        with client.messages.stream(
            model="mock-claude",
            max_tokens=200,
            messages=MESSAGES,
            extra_headers={"x-mock-cut-after": "5"},
        ) as stream:
            stream.until_done()
    assert caught.value.body["error"]["type"] == "api_error"
