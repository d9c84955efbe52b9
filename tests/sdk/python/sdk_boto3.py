"""AWS's SDK for Python, for Bedrock; the key is an API key for Bedrock, so no request is signed."""

import contextlib
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
    cut_daily = "0.001"

    def __init__(self):
        # boto3 makes its error classes for each client; these two do not depend on one.
        session = boto3.session.Session(region_name="us-east-1")
        made = session.client("bedrock-runtime", aws_access_key_id="none", aws_secret_access_key="none")
        self.refused = (made.exceptions.AccessDeniedException,)
        self.bad_request = (made.exceptions.ValidationException,)
        self.cut = self.dropped = (botocore.exceptions.EventStreamError,)

    def version(self):
        return boto3.__version__

    def open(self, base, key):
        os.environ["AWS_BEARER_TOKEN_BEDROCK"] = key
        session = boto3.session.Session(region_name="us-east-1")
        client = session.client("bedrock-runtime", endpoint_url=base)
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

    def status(self, error):
        return error.response["ResponseMetadata"]["HTTPStatusCode"]

    def detail(self, error):
        suite.same(error.response["Error"]["Code"], "AccessDeniedException")
        return None
