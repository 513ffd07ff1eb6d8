"""The official OpenAI Python client against a running host: python3 smoke.py (needs `pip install openai`).

COLDFRAME_URL (http://127.0.0.1:8000/v1), COLDFRAME_API_KEY and COLDFRAME_MODEL_NAME say where, who and which function.
"""

import os

import openai

MODEL = os.environ["COLDFRAME_MODEL_NAME"]
client = openai.OpenAI(
    base_url=os.environ.get("COLDFRAME_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("COLDFRAME_API_KEY", "none"),
    max_retries=0,
)
messages = [{"role": "user", "content": "Say hello."}]


def refused(kind, **fields):
    """Asks for something that must fail as `kind`, and returns the error."""
    try:
        client.chat.completions.create(**{"model": MODEL, "messages": messages, **fields})
    except kind as error:
        assert error.code and error.request_id, error
        return error
    raise AssertionError(f"{fields} was answered")


models = [model.id for model in client.models.list()]
assert MODEL in models, models
assert client.models.retrieve(MODEL).id == MODEL

whole = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=16, seed=1, temperature=0)
assert whole.model == MODEL and whole.choices[0].message.content, whole
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
print("chat:", whole.choices[0].message.content.strip())

stream = client.chat.completions.create(
    model=MODEL, messages=messages, max_tokens=16, seed=1, temperature=0, stream=True,
    stream_options={"include_usage": True},
)
chunks = list(stream)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert text == whole.choices[0].message.content, text
assert chunks[-1].usage and not chunks[-1].choices
assert chunks[0].choices[0].delta.role == "assistant"
print("stream:", len(chunks), "chunks")

probable = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4, logprobs=True, top_logprobs=2)
assert len(probable.choices[0].logprobs.content[0].top_logprobs) == 2

completion = client.completions.create(model=MODEL, prompt="Once upon", max_tokens=8)
assert completion.choices[0].text
print("completion:", completion.choices[0].text.strip())

schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
shaped = client.chat.completions.create(
    model=MODEL, messages=messages, max_tokens=64,
    response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}},
)
assert shaped.choices[0].message.content.lstrip().startswith("{"), shaped

tool = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 16}}, "required": ["city"],
    "additionalProperties": False}}}
called = client.chat.completions.create(
    model=MODEL, messages=messages, tools=[tool], max_tokens=64,
    tool_choice={"type": "function", "function": {"name": "get_weather"}},
)
assert called.choices[0].message.tool_calls[0].function.name == "get_weather", called
print("tool:", called.choices[0].message.tool_calls[0].function.arguments)

assert refused(openai.NotFoundError, model="no-such-function").code == "model_not_found"
assert refused(openai.BadRequestError, temperature=9).param == "temperature"
wrong = openai.OpenAI(base_url=client.base_url, api_key="cf_wrong_wrong", max_retries=0)
if os.environ.get("COLDFRAME_API_KEY"):
    try:
        wrong.models.list()
        raise AssertionError("a wrong key was taken")
    except openai.AuthenticationError:
        pass
print("openai", openai.__version__, "for Python: all well")
