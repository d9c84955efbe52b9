"""Mistral's SDK for Python: chat and embeddings, and the responses."""

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


class Responses(MistralAi):
    name = "mistralai-responses"
    has_embeddings = False

    def plain(self, client, text, max_tokens=None):
        response = client.responses.create(model=MODEL, input=text, max_output_tokens=max_tokens or 1000)
        parts = [part for item in response.output if item.type == "message" for part in item.content]
        return "".join(part.text for part in parts), response.usage.output_tokens, response.status == "completed"

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        with client.responses.create(
            model=MODEL, input=text, max_output_tokens=max_tokens or 10000, stream=True
        ) as events:
            yield (self._read_event(event.data) for event in events)

    @staticmethod
    def _read_event(event):
        if event.type == "response.output_text.delta":
            return event.delta, None
        if event.type in ("response.completed", "response.incomplete", "response.failed"):
            usage = event.response.usage
            return None, (usage.output_tokens if usage else None, event.type == "response.completed")
        return None, None

    def tool(self, client, text, streamed):
        tool = {
            "type": "function",
            "name": suite.WEATHER["name"],
            "description": suite.WEATHER["description"],
            "parameters": suite.WEATHER["schema"],
            "strict": False,
        }
        options = {"model": MODEL, "input": text, "tools": [tool], "max_output_tokens": 1000}
        if not streamed:
            output = client.responses.create(**options).output
        else:
            with client.responses.create(**options, stream=True) as events:
                output = [event.data.item for event in events if event.data.type == "response.output_item.done"]
        return next(item.name for item in output if item.type == "function_call")

    def free(self, client, text):
        names, _ = super().free(client, text)
        return names, client.responses.count_input_tokens(model=MODEL, input=text).input_tokens
