"""Google's SDK for Python, for the Gemini API."""

import contextlib

from google import genai
from google.genai import errors, types

import suite

MODEL = "gemini-3.8-flash"
EMBEDDING_MODEL = "gemini-embedding-001"


def config(max_tokens=None, **more):
    return types.GenerateContentConfig(max_output_tokens=max_tokens or 10000, **more)


def read(chunk):
    final = None
    if chunk.candidates and chunk.candidates[0].finish_reason:
        natural = chunk.candidates[0].finish_reason == types.FinishReason.STOP
        usage = chunk.usage_metadata
        final = ((usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0), natural)
    parts = (chunk.candidates[0].content.parts if chunk.candidates and chunk.candidates[0].content else None) or []
    return "".join(part.text or "" for part in parts), final


class GoogleGenai(suite.Adapter):
    name, provider = "google-genai", "gemini"
    refused = (errors.ClientError,)
    cut = (errors.ClientError,)
    bad_request = (errors.ClientError,)
    dropped = (errors.ServerError,)

    def version(self):
        return genai.__version__

    def open(self, base, key):
        return genai.Client(api_key=key, http_options={"base_url": base})

    def plain(self, client, text, max_tokens=None):
        answer = client.models.generate_content(model=MODEL, contents=text, config=config(max_tokens))
        found, (tokens, natural) = read(answer)
        return found, tokens, natural

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        chunks = client.models.generate_content_stream(model=MODEL, contents=text, config=config(max_tokens))
        try:
            yield (read(chunk) for chunk in chunks)
        finally:
            chunks.close()

    def tool(self, client, text, streamed):
        function = types.FunctionDeclaration(
            name=suite.WEATHER["name"],
            description=suite.WEATHER["description"],
            parameters_json_schema=suite.WEATHER["schema"],
        )
        settings = config(tools=[types.Tool(function_declarations=[function])])
        if streamed:
            answers = list(client.models.generate_content_stream(model=MODEL, contents=text, config=settings))
        else:
            answers = [client.models.generate_content(model=MODEL, contents=text, config=settings)]
        return next(call.name for answer in answers for call in answer.function_calls or [])

    def embed(self, client, texts):
        answer = client.models.embed_content(model=EMBEDDING_MODEL, contents=texts)
        return [embedding.values for embedding in answer.embeddings]

    def free(self, client, text):
        names = [model.name for model in client.models.list()]
        return names, client.models.count_tokens(model=MODEL, contents=text).total_tokens

    def status(self, error):
        return error.code

    def detail(self, error):
        suite.same(error.status, "FAILED_PRECONDITION")
        return error.details["error"]["loopers"]
