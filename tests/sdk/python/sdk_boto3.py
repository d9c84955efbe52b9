"""AWS's SDK for Python, for Bedrock: with an API key for Bedrock, by HTTPS; and signing, by HTTP and the path form."""

import contextlib
import json
import os

import boto3
import botocore.exceptions

import suite

MODEL = "amazon.nova-lite-v1:0"


def ask(text):
    return [{"role": "user", "content": [{"text": text}]}]


class Boto3(suite.Adapter):
    name, provider = "boto3", "bedrock"
    refused_status = 403
    has_embeddings = False
    cut = dropped = (botocore.exceptions.EventStreamError,)
    # What a bearer key needs; boto3 refuses to send it otherwise.
    needs_https = True

    def version(self):
        return boto3.__version__

    def open(self, base, key):
        os.environ["AWS_BEARER_TOKEN_BEDROCK"] = key
        os.environ["AWS_CA_BUNDLE"] = str(self.certificate)
        return self.known(boto3.session.Session(region_name="us-east-1").client("bedrock-runtime", endpoint_url=base))

    def known(self, client):
        """boto3 makes its error classes for each client."""
        self.refused = (client.exceptions.AccessDeniedException,)
        self.bad_request = (client.exceptions.ValidationException,)
        return client

    def plain(self, client, text, max_tokens=None):
        answer = client.converse(modelId=MODEL, messages=ask(text), inferenceConfig={"maxTokens": max_tokens or 1000})
        found = "".join(block.get("text", "") for block in answer["output"]["message"]["content"])
        return found, answer["usage"]["outputTokens"], answer["stopReason"] == "end_turn"

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        limit = {"maxTokens": max_tokens or 5000}
        answer = client.converse_stream(modelId=MODEL, messages=ask(text), inferenceConfig=limit)
        with contextlib.closing(answer["stream"]) as events:
            yield self._read(events)

    @staticmethod
    def _read(events):
        natural = False
        for event in events:
            if "contentBlockDelta" in event:
                yield event["contentBlockDelta"]["delta"].get("text"), None
            elif "messageStop" in event:
                natural = event["messageStop"]["stopReason"] == "end_turn"
            elif "metadata" in event:
                yield None, (event["metadata"]["usage"]["outputTokens"], natural)

    def tool(self, client, text, streamed):
        spec = {
            "name": suite.WEATHER["name"],
            "description": suite.WEATHER["description"],
            "inputSchema": {"json": suite.WEATHER["schema"]},
        }
        options = {
            "modelId": MODEL, "messages": ask(text), "toolConfig": {"tools": [{"toolSpec": spec}]},
            "inferenceConfig": {"maxTokens": 1000},
        }
        if not streamed:
            content = client.converse(**options)["output"]["message"]["content"]
            return next(block["toolUse"]["name"] for block in content if "toolUse" in block)
        events = list(client.converse_stream(**options)["stream"])
        starts = [event["contentBlockStart"]["start"] for event in events if "contentBlockStart" in event]
        return next(start["toolUse"]["name"] for start in starts if "toolUse" in start)

    def free(self, client, text):
        return None, client.count_tokens(modelId=MODEL, input={"converse": {"messages": ask(text)}})["inputTokens"]

    def status(self, error):
        return error.response["ResponseMetadata"]["HTTPStatusCode"]

    def detail(self, error):
        suite.same(error.response["Error"]["Code"], "AccessDeniedException")
        return None


class Signing(Boto3):
    """With credentials of AWS, as every client that knows no API keys: the proxy key is in the address, the signature is dropped."""

    name = "boto3-signing"
    needs_https = False

    def open(self, base, key):
        os.environ.pop("AWS_BEARER_TOKEN_BEDROCK", None)
        address = base.removesuffix("/bedrock") + f"/{key}/bedrock"
        session = boto3.session.Session("AKIAIOSFODNN7EXAMPLE", "not-a-secret-of-aws", region_name="us-east-1")
        return self.known(session.client("bedrock-runtime", endpoint_url=address))


class Invoke(Boto3):
    """The calls whose body is the vendor's own: Claude's, and Titan's for embeddings."""

    name = "boto3-invoke"
    has_embeddings = True
    model, embedding_model = "us.anthropic.claude-sonnet-4-6", "amazon.titan-embed-text-v2:0"

    def _body(self, text, max_tokens, **more):
        messages = [{"role": "user", "content": text}]
        return json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": max_tokens, "messages": messages, **more})

    def plain(self, client, text, max_tokens=None):
        answer = json.load(client.invoke_model(modelId=self.model, body=self._body(text, max_tokens or 1000))["body"])
        found = "".join(block.get("text", "") for block in answer["content"])
        return found, answer["usage"]["output_tokens"], answer["stop_reason"] == "end_turn"

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        answer = client.invoke_model_with_response_stream(modelId=self.model, body=self._body(text, max_tokens or 5000))
        with contextlib.closing(answer["body"]) as events:
            yield (self._read_native(json.loads(event["chunk"]["bytes"])) for event in events)

    @staticmethod
    def _read_native(event):
        if event["type"] == "content_block_delta":
            return event["delta"].get("text"), None
        if event["type"] == "message_delta":
            return None, (event["usage"]["output_tokens"], event["delta"]["stop_reason"] == "end_turn")
        return None, None

    def tool(self, client, text, streamed):
        weather = suite.WEATHER
        tool = {"name": weather["name"], "description": weather["description"], "input_schema": weather["schema"]}
        body = self._body(text, 1000, tools=[tool])
        if not streamed:
            blocks = json.load(client.invoke_model(modelId=self.model, body=body)["body"])["content"]
        else:
            events = client.invoke_model_with_response_stream(modelId=self.model, body=body)["body"]
            natives = [json.loads(event["chunk"]["bytes"]) for event in events]
            blocks = [native["content_block"] for native in natives if native["type"] == "content_block_start"]
        return next(block["name"] for block in blocks if block["type"] == "tool_use")

    def embed(self, client, texts):
        bodies = [json.dumps({"inputText": text}) for text in texts]
        answers = [client.invoke_model(modelId=self.embedding_model, body=body)["body"] for body in bodies]
        return [json.load(answer)["embedding"] for answer in answers]

    def free(self, client, text):
        body = self._body(text, 1000).encode()
        return None, client.count_tokens(modelId=self.model, input={"invokeModel": {"body": body}})["inputTokens"]
