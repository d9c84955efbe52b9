"""Anthropic's SDK for Python."""

import contextlib

import anthropic

import suite

MODEL = "claude-sonnet-4-6"


def ask(text):
    return [{"role": "user", "content": text}]


class Anthropic(suite.Adapter):
    name, provider = "anthropic", "anthropic"
    refused = (anthropic.PaymentRequiredError,)
    cut = (anthropic.APIStatusError,)
    bad_request = (anthropic.BadRequestError,)
    dropped = (anthropic.APIStatusError,)
    # 1,300 tokens of 15 USD a million.
    cut_daily = "0.05"
    has_embeddings = False

    def version(self):
        return anthropic.__version__

    def open(self, base, key):
        return anthropic.Anthropic(base_url=base, api_key=key)

    def plain(self, client, text, max_tokens=None):
        message = client.messages.create(model=MODEL, max_tokens=max_tokens or 1000, messages=ask(text))
        text = "".join(block.text for block in message.content if block.type == "text")
        return text, message.usage.output_tokens, message.stop_reason == "end_turn"

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        with client.messages.create(
            model=MODEL, max_tokens=max_tokens or 10000, messages=ask(text), stream=True
        ) as events:
            yield (self._read(event) for event in events)

    @staticmethod
    def _read(event):
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            return event.delta.text, None
        if event.type == "message_delta":
            return None, (event.usage.output_tokens, event.delta.stop_reason == "end_turn")
        return None, None

    def tool(self, client, text, streamed):
        tool = {
            "name": suite.WEATHER["name"],
            "description": suite.WEATHER["description"],
            "input_schema": suite.WEATHER["schema"],
        }
        options = {"model": MODEL, "max_tokens": 1000, "messages": ask(text), "tools": [tool]}
        if streamed:
            with client.messages.stream(**options) as stream:
                message = stream.get_final_message()
        else:
            message = client.messages.create(**options)
        suite.same(message.stop_reason, "tool_use")
        return next(block.name for block in message.content if block.type == "tool_use")

    def free(self, client, text):
        names = [model.id for model in client.models.list()]
        return names, client.messages.count_tokens(model=MODEL, messages=ask(text)).input_tokens

    def status(self, error):
        return error.status_code

    def detail(self, error):
        suite.same((error.body["type"], error.body["error"]["type"]), ("error", "billing_error"))
        suite.same(error.response.headers["x-should-retry"], "false")
        assert error.request_id, "the SDK shows the request id"
        return error.body["error"]["loopers"]
