"""OpenAI's SDK for Python: chat completions, responses and legacy completions, with OpenAI and with Azure."""

import contextlib

import openai

import suite

COMPLETION_MODEL = "gpt-3.5-turbo-instruct"


class OpenAi(suite.Adapter):
    provider = "openai"
    model, embedding_model = "gpt-4o-mini", "text-embedding-3-small"
    refused = (openai.APIStatusError,)
    cut = dropped = (openai.APIError,)
    bad_request = (openai.BadRequestError,)
    has_embeddings = False

    def version(self):
        return openai.__version__

    def open(self, base, key):
        return openai.OpenAI(base_url=f"{base}/v1", api_key=key)

    def free(self, client, text):
        names = [model.id for model in client.models.list()]
        return names, client.responses.input_tokens.count(model=self.model, input=text).input_tokens

    def status(self, error):
        return error.status_code

    def detail(self, error):
        suite.same((error.code, error.type), ("budget_exceeded", "insufficient_quota"))
        suite.same(error.response.headers["x-should-retry"], "false")
        return error.body["loopers"]


class Chat(OpenAi):
    name = "openai-chat"
    has_embeddings = True
    # 1,600 tokens of 0.60 USD a million.
    cut_daily = "0.001"

    def _options(self, text, **more):
        return {"model": self.model, "messages": [{"role": "user", "content": text}], **more}

    def plain(self, client, text, max_tokens=None):
        completion = client.chat.completions.create(**self._options(text, max_tokens=max_tokens or 1000))
        choice = completion.choices[0]
        return choice.message.content, completion.usage.completion_tokens, choice.finish_reason == "stop"

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        asked = {"max_tokens": max_tokens or 10000, "stream": True, "stream_options": {"include_usage": True}}
        with client.chat.completions.create(**self._options(text, **asked)) as chunks:
            yield self._read(chunks)

    @staticmethod
    def _read(chunks):
        natural = False
        for chunk in chunks:
            # Azure's first chunk says only what its filter thinks of the prompt.
            choice = chunk.choices[0] if chunk.choices else None
            natural |= bool(choice) and choice.finish_reason == "stop"
            yield choice.delta.content if choice else None, None
            if chunk.usage:
                yield None, (chunk.usage.completion_tokens, natural)

    def tool(self, client, text, streamed):
        function = {
            "name": suite.WEATHER["name"],
            "description": suite.WEATHER["description"],
            "parameters": suite.WEATHER["schema"],
        }
        options = self._options(text, tools=[{"type": "function", "function": function}], max_tokens=1000)
        if streamed:
            with client.chat.completions.stream(**options) as events:
                completion = events.until_done().get_final_completion()
        else:
            completion = client.chat.completions.create(**options)
        return completion.choices[0].message.tool_calls[0].function.name

    def embed(self, client, texts):
        answer = client.embeddings.create(model=self.embedding_model, input=texts)
        return [item.embedding for item in answer.data]


class Responses(OpenAi):
    name = "openai-responses"
    # 1,600 tokens of 0.60 USD a million.
    cut_daily = "0.001"

    def plain(self, client, text, max_tokens=None):
        response = client.responses.create(model=self.model, input=text, max_output_tokens=max_tokens or 1000)
        return response.output_text, response.usage.output_tokens, response.status == "completed"

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        limit = max_tokens or 10000
        with client.responses.create(model=self.model, input=text, max_output_tokens=limit, stream=True) as events:
            yield (self._read(event) for event in events)

    @staticmethod
    def _read(event):
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
        options = {"model": self.model, "input": text, "tools": [tool], "max_output_tokens": 1000}
        if streamed:
            with client.responses.stream(**options) as events:
                response = events.until_done().get_final_response()
        else:
            response = client.responses.create(**options)
        return next(item.name for item in response.output if item.type == "function_call")


class Completions(OpenAi):
    name = "openai-completions"
    # 2,000 tokens of 2 USD a million.
    cut_daily = "0.004"
    has_tools = False

    def plain(self, client, text, max_tokens=None):
        completion = client.completions.create(model=COMPLETION_MODEL, prompt=text, max_tokens=max_tokens or 1000)
        choice = completion.choices[0]
        return choice.text, completion.usage.completion_tokens, choice.finish_reason == "stop"

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        with client.completions.create(
            model=COMPLETION_MODEL, prompt=text, max_tokens=max_tokens or 3000, stream=True,
            stream_options={"include_usage": True},
        ) as chunks:
            yield self._read(chunks)

    @staticmethod
    def _read(chunks):
        natural = False
        for chunk in chunks:
            if chunk.choices and chunk.choices[0].finish_reason:
                natural = chunk.choices[0].finish_reason == "stop"
            yield chunk.choices[0].text if chunk.choices else None, None
            if chunk.usage:
                yield None, (chunk.usage.completion_tokens, natural)


class OnAzure:
    """With deployments for models, and routes for free that are not OpenAI's."""

    provider = "azure"
    bills_errors = True
    model, embedding_model = "my-gpt-4o-mini", "my-text-embedding-3-large"

    def open(self, base, key):
        return openai.AzureOpenAI(azure_endpoint=base, api_key=key, api_version="2025-04-01-preview")

    def free(self, client, text):
        return [model.id for model in client.models.list()], None


class Azure(OnAzure, Chat):
    """The client for Azure: the deployment is in the path."""

    name = "openai-azure"


class AzureResponses(OnAzure, Responses):
    name = "openai-azure-responses"


class AzureV1(OnAzure, Chat):
    """The plain client: the deployment is in the body."""

    name = "openai-azure-v1"

    def open(self, base, key):
        return openai.OpenAI(base_url=f"{base}/openai/v1", api_key=key)
