"""Mistral's SDK for Python."""

import contextlib
import importlib.metadata
import json

from mistralai.client import Mistral, errors

import suite

MODEL = "codestral-latest"
EMBEDDING_MODEL = "mistral-embed"


def ask(text):
    return [{"role": "user", "content": text}]


class MistralAi(suite.Adapter):
    name, provider = "mistralai", "mistral"
    refused = (errors.SDKError,)
    # The SDK has no error event: what is not a chunk fails its validation.
    cut = (errors.ResponseValidationError,)
    bad_request = (errors.SDKError,)
    dropped = (errors.ResponseValidationError,)
    cut_daily = "0.003"

    def version(self):
        return importlib.metadata.version("mistralai")

    def open(self, base, key):
        return Mistral(api_key=key, server_url=base)

    def plain(self, client, text, max_tokens=None):
        answer = client.chat.complete(model=MODEL, messages=ask(text), max_tokens=max_tokens or 1000)
        choice = answer.choices[0]
        return choice.message.content, answer.usage.completion_tokens, choice.finish_reason == "stop"

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        with client.chat.stream(model=MODEL, messages=ask(text), max_tokens=max_tokens or 10000) as events:
            yield (self._read(event.data) for event in events)

    @staticmethod
    def _read(chunk):
        choice = chunk.choices[0]
        final = (chunk.usage.completion_tokens, choice.finish_reason == "stop") if choice.finish_reason else None
        return choice.delta.content, final

    def tool(self, client, text, streamed):
        tool = {
            "type": "function",
            "function": {
                "name": suite.WEATHER["name"],
                "description": suite.WEATHER["description"],
                "parameters": suite.WEATHER["schema"],
            },
        }
        options = {"model": MODEL, "messages": ask(text), "tools": [tool], "max_tokens": 1000}
        if not streamed:
            return client.chat.complete(**options).choices[0].message.tool_calls[0].function.name
        with client.chat.stream(**options) as events:
            deltas = [event.data.choices[0].delta for event in events]
        return next(call.function.name for delta in deltas for call in delta.tool_calls or [] if call.function.name)

    def embed(self, client, texts):
        answer = client.embeddings.create(model=EMBEDDING_MODEL, inputs=texts)
        return [item.embedding for item in answer.data]

    def free(self, client, text):
        return [model.id for model in client.models.list().data], None

    def status(self, error):
        return error.status_code

    def detail(self, error):
        return json.loads(error.body)["loopers"]
