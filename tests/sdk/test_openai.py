"""The official OpenAI SDK against the router."""

import asyncio
import json

import openai
import pytest

MESSAGES = [{"role": "user", "content": "Tell me about the sea."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


@pytest.fixture
def client(router):
    return openai.OpenAI(base_url=f"{router.url}/v1", api_key=router.key, max_retries=0)


def test_chat(client):
    answer = client.chat.completions.with_raw_response.create(model="fast", messages=MESSAGES)
    assert answer.headers["x-llm-router-provider"] == "mock"
    assert answer.headers["x-llm-router-model"] == "mock-gpt"
    assert answer.headers["x-llm-router-attempts"] == "1"
    assert answer.headers["x-request-id"].startswith("req_")
    chat = answer.parse()
    assert chat.choices[0].message.content and chat.choices[0].finish_reason == "stop"
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens


@pytest.mark.parametrize("model", ["fast", "mock/mock-gpt", "mock-gpt", "mock/any-name"])
def test_every_kind_of_name(client, model):
    assert client.chat.completions.create(model=model, messages=MESSAGES).choices


@pytest.mark.parametrize("usage", [True, False])
def test_chat_stream(client, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(
        client.chat.completions.create(model="fast", messages=MESSAGES, stream=True, **options)
    )
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    plain = client.chat.completions.create(model="fast", messages=MESSAGES)
    assert text == plain.choices[0].message.content
    assert (chunks[-1].usage is not None) == usage


def test_split_anywhere(client):
    headers = {"x-mock-split": "3"}
    create = client.chat.completions.create
    split = list(create(model="fast", messages=MESSAGES, stream=True, extra_headers=headers))
    whole = list(create(model="fast", messages=MESSAGES, stream=True))
    text = lambda chunks: "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text(split) == text(whole) != ""


@pytest.mark.parametrize("stream", [True, False])
def test_tools(client, stream):
    arguments = dict(model="fast", messages=MESSAGES, tools=[WEATHER], tool_choice="required")
    if stream:
        with client.chat.completions.stream(**arguments) as events:
            for _ in events:
                pass
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**arguments).choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) >= {"city", "days"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    turn = [*MESSAGES, message.model_dump(exclude_none=True), result]
    assert client.chat.completions.create(model="fast", messages=turn, tools=[WEATHER]).choices


def test_completions(client):
    assert client.completions.create(model="mock-gpt", prompt="Once").choices[0].text
    assert list(client.completions.create(model="mock-gpt", prompt="Once", stream=True))


def test_embeddings(client):
    answer = client.embeddings.create(model="mock-embed", input=["one", "two"])
    assert len(answer.data) == 2 and len(answer.data[0].embedding) > 1


def test_responses(client):
    answer = client.responses.create(model="fast", input="Tell me about the sea.")
    assert answer.output_text and answer.usage.total_tokens > 0
    events = list(client.responses.create(model="fast", input="The sea", stream=True))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(numbers)


def test_models(client):
    ids = [model.id for model in client.models.list()]
    assert ids[0] == "fast" and "mock/mock-gpt" in ids
    assert client.models.retrieve("mock/mock-gpt").id == "mock/mock-gpt"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/nothing")


def test_wrong_key(router):
    client = openai.OpenAI(base_url=f"{router.url}/v1", api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="fast", messages=MESSAGES)
    assert caught.value.code == "invalid_api_key"


def test_bad_field(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=7, messages=MESSAGES)
    assert caught.value.param == "model" and caught.value.code == "invalid_value"


def test_a_refused_credential_of_the_router_is_not_the_clients(client):
    for status in (401, 402, 403):
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(
                model="fast", messages=MESSAGES, extra_headers={"x-mock-status": str(status)}
            )
        assert caught.value.status_code == 502 and caught.value.code == "provider_auth"


@pytest.mark.parametrize(
    "status, error",
    [
        (400, openai.BadRequestError),
        (451, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_provider_errors(client, status, error):
    with pytest.raises(error) as caught:
        client.chat.completions.create(
            model="fast", messages=MESSAGES, extra_headers={"x-mock-status": str(status)}
        )
    assert caught.value.status_code == status and caught.value.message


def test_broken_stream(client):
    stream = client.chat.completions.create(
        model="fast", messages=MESSAGES, stream=True, extra_headers={"x-mock-cut-after": "3"}
    )
    with pytest.raises(openai.APIError) as caught:
        seen = [chunk for chunk in stream]
        assert not seen, "the stream ended as if it were complete"
    assert caught.value.code == "upstream_error"


def test_many_at_once(router):
    async def run():
        client = openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key=router.key)

        async def one(number):
            messages = [{"role": "user", "content": f"Number {number}"}]
            stream = await client.chat.completions.create(
                model="fast", messages=messages, stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

        return await asyncio.gather(*(one(number) for number in range(50)))

    assert all(asyncio.run(run()))
