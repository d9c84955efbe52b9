#!/usr/bin/env python3
"""The official OpenAI SDK for Python against gateway and mock, unmodified but for base URL and key.

    LOOPERS_BIN=target/debug/loopers .venv/bin/python tests/sdk/python/test_openai_sdk.py [PART-OF-A-NAME]

Every test gets a key of its own and a mock with empty books. After each one, at rest, nothing is held, what was charged
equals the provider's invoice to the nano-dollar, and no proxy key and no X-Loopers header has reached the provider.
A test that is cut ends with the hold charged, so there invoice <= charged <= limit is what must hold.
"""

import os
import sys
import time
import traceback

import openai
import world as w

CHAT_MODEL = "gpt-4o-mini"
EMBEDDING_MODEL = "text-embedding-3-small"
TESTS = []


def test(*key_flags, books="exact"):
    """Registers a test; `key_flags` are those of `loopers keys create`. `books`: exact, or bounded where a call is cut."""

    def register(function):
        TESTS.append((function.__name__, function, key_flags, books))
        return function

    return register


def ask(script="tokens=20", text="Say something."):
    """Messages whose last one tells the mock what to do."""
    return [{"role": "user", "content": f"{text} [[mock {script}]]"}]


class Bench:
    """One test's view: the world, its key, and a client with the SDK's own defaults."""

    def __init__(self, world, key):
        self.world = world
        self.key = key
        self.wire_at_start = len(world.relay.requests)
        self.clients = []
        self.client = self.new_client()

    def new_client(self, api_key=None, path="openai/v1", **options):
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.world.relay.port}/{path}",
            api_key=api_key or self.key["key"],
            timeout=60,
            **options,
        )
        self.clients.append(client)
        return client

    def close(self):
        for client in self.clients:
            client.close()

    def on_the_wire(self):
        """Requests that the SDK has sent in this test."""
        return self.world.relay.requests[self.wire_at_start :]

    def chat(self, script="tokens=20", client=None, **options):
        return (client or self.client).chat.completions.create(model=CHAT_MODEL, messages=ask(script), **options)

    def raises(self, kind, call):
        try:
            call()
        except kind as error:
            return error
        raise AssertionError(f"{kind.__name__} was not raised")


def same(found, wanted):
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


# === Answers ===


@test("--daily", "5")
def answer(t):
    raw = t.client.chat.completions.with_raw_response.create(model=CHAT_MODEL, messages=ask("tokens=30"))
    completion = raw.parse()
    same(completion.choices[0].finish_reason, "stop")
    same(completion.usage.completion_tokens, 30)
    assert completion.choices[0].message.content
    assert raw.headers["x-request-id"] == completion._request_id, "the SDK shows the request id"
    charged = t.world.at_rest(t.key)["spent"]
    same(w.nano(raw.headers["x-loopers-cost-usd"]), charged)
    assert w.nano(raw.headers["x-loopers-held-usd"]) >= charged
    same(raw.headers["x-loopers-remaining-window"], "key/daily")
    same(len(t.on_the_wire()), 1)


@test("--daily", "5")
def stream_without_usage(t):
    chunks = list(t.chat("tokens=40", stream=True))
    assert all(chunk.choices for chunk in chunks), "a chunk without choices, though usage was not asked for"
    assert all(chunk.usage is None for chunk in chunks), "usage, though it was not asked for"
    same(chunks[-1].choices[0].finish_reason, "stop")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@test("--daily", "5")
def stream_with_usage(t):
    chunks = list(t.chat("tokens=40", stream=True, stream_options={"include_usage": True}))
    same(chunks[-1].choices, [])
    same(chunks[-1].usage.completion_tokens, 40)
    assert all(chunk.choices for chunk in chunks[:-1])
    same(chunks[-2].choices[0].finish_reason, "stop")


@test("--daily", "5")
def embeddings(t):
    answer = t.client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two two", "three"])
    same(len(answer.data), 3)
    assert answer.data[0].embedding and isinstance(answer.data[0].embedding[0], float)
    same(t.world.invoice()["calls"], 1)


@test("--daily", "5")
def models_are_listed_free_of_charge(t):
    names = {model.id for model in t.client.models.list()}
    assert CHAT_MODEL in names, names
    same(t.world.at_rest(t.key)["spent"], 0)


@test("--daily", "5")
def tools(t):
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    completion = t.chat("tokens=20;tool_call=1", tools=[tool], tool_choice="auto")
    same(completion.choices[0].finish_reason, "tool_calls")
    assert completion.choices[0].message.tool_calls[0].function.name
    chunks = list(t.chat("tokens=20;tool_call=1", tools=[tool], stream=True))
    assert any(chunk.choices[0].delta.tool_calls for chunk in chunks)
    same(chunks[-1].choices[0].finish_reason, "tool_calls")


# === The cap ===


@test("--daily", "0.000001")
def refusal_is_raised_at_once(t):
    refusals = t.world.metric("loopers_refusals_total")
    for streamed in (False, True):
        wire = len(t.on_the_wire())
        start = time.monotonic()
        error = t.raises(openai.APIStatusError, lambda: t.chat(stream=streamed))
        assert time.monotonic() - start < 2, "a refusal takes no waiting"
        same((error.status_code, error.code, error.type), (402, "budget_exceeded", "insufficient_quota"))
        same(len(t.on_the_wire()) - wire, 1)
        same(error.response.headers["x-should-retry"], "false")
        assert "retry-after" not in error.response.headers
        detail = error.body["loopers"]
        same((detail["code"], detail["level"], detail["window"]), ("budget_exceeded", "key", "daily"))
        same(w.nano(detail["limit_usd"]), 1000)
        same(w.nano(detail["spent_usd"]), 0)
        assert w.nano(detail["requested_usd"]) > 1000 and detail["resets_at"] and detail["hint"]
    same(t.world.metric("loopers_refusals_total") - refusals, 2)
    same(t.world.invoice()["requests"], 0)


@test("--daily", "0.0001")
def clamped_call_ends_with_length(t):
    raw = t.client.chat.completions.with_raw_response.create(model=CHAT_MODEL, messages=ask("tokens=5000"))
    completion = raw.parse()
    limit = int(raw.headers["x-loopers-max-tokens"])
    assert 16 <= limit < 5000, limit
    same(completion.choices[0].finish_reason, "length")
    same(completion.usage.completion_tokens, limit)


@test("--daily", "0.0001")
def clamped_stream_ends_with_length(t):
    chunks = list(t.chat("tokens=5000", stream=True))
    same(chunks[-1].choices[0].finish_reason, "length")


@test("--daily", "0.001", "--overflow", "cut", books="bounded")
def cut_stream_is_an_error(t):
    seen = []
    error = t.raises(
        openai.APIError, lambda: seen.extend(t.chat("tokens=8000;rate=2000;leave=stop", stream=True))
    )
    assert type(error) is openai.APIError, f"an error event, not {type(error).__name__}: {error}"
    assert seen, "the stream had begun"
    same([chunk for chunk in seen if chunk.choices[0].finish_reason], [])
    same(len(t.on_the_wire()), 1)


@test("--daily", "1", books="bounded")
def killed_stream_is_an_error(t):
    stream = t.chat("tokens=200;rate=40", stream=True, max_tokens=200)
    next(stream)
    t.world.run("kill", t.key["id"], "--json")
    killed = time.monotonic()
    error = t.raises(openai.APIError, lambda: list(stream))
    assert type(error) is openai.APIError, f"an error event, not {type(error).__name__}: {error}"
    assert time.monotonic() - killed < 1.5, f"cut after {time.monotonic() - killed:.2f} s"
    error = t.raises(openai.PermissionDeniedError, lambda: t.chat())
    assert error.code in ("key_revoked", "key_paused"), error.code


@test("--daily", "5", "--session-budget", "0.00005")
def session_has_a_budget_of_its_own(t):
    run = {"X-Loopers-Session-ID": "run-1"}
    for _ in range(20):
        try:
            t.chat("tokens=20", max_tokens=20, extra_headers=run)
        except openai.APIStatusError as error:
            same((error.status_code, error.code), (402, "session_budget_exceeded"))
            same(error.body["loopers"]["level"], "session")
            break
    else:
        raise AssertionError("the session never ran out")
    t.chat("tokens=20", max_tokens=20, extra_headers={"X-Loopers-Session-ID": "run-2"})
    tight = {"X-Loopers-Session-ID": "run-3", "X-Loopers-Session-Budget": "0.000001"}
    same(t.raises(openai.APIStatusError, lambda: t.chat(extra_headers=tight)).code, "session_budget_exceeded")


# === Keys ===


@test("--daily", "5")
def unknown_key(t):
    for key in ("lp-" + "a" * 43, "sk-not-a-proxy-key"):
        wire = len(t.on_the_wire())
        error = t.raises(openai.AuthenticationError, lambda: t.chat(client=t.new_client(api_key=key)))
        same((error.status_code, error.code), (401, "invalid_key"))
        same(len(t.on_the_wire()) - wire, 1)
    same(t.world.invoice()["requests"], 0)


@test("--daily", "5")
def provider_key_from_the_configuration(t):
    t.chat()
    same(t.world.invoice()["last"][0]["authorization"], w.CONFIG_PROVIDER_KEY)


@test("--daily", "5")
def provider_key_in_the_path_form(t):
    client = t.new_client(api_key=w.CLIENT_PROVIDER_KEY, path=f"{t.key['key']}/openai/v1")
    t.chat(client=client)
    assert list(t.chat(client=client, stream=True))
    seen = t.world.invoice()["last"]
    same([call["authorization"] for call in seen], [w.CLIENT_PROVIDER_KEY] * 2)
    same([call["path"] for call in seen], ["/v1/chat/completions"] * 2)


@test("--daily", "5")
def provider_key_in_a_header(t):
    t.chat(extra_headers={"X-Loopers-Provider-Key": w.CLIENT_PROVIDER_KEY})
    same(t.world.invoice()["last"][0]["authorization"], w.CLIENT_PROVIDER_KEY)


# === Leaving ===


@test("--daily", "5")
def hang_up_in_mid_stream(t):
    stream = t.chat("tokens=300;rate=200", stream=True, max_tokens=1000)
    for _ in range(5):
        next(stream)
    stream.close()
    assert t.world.invoice()["in_flight"] == 1, "the provider was still generating when the client left"


# === Running ===


def check_books(world, key, flags, books):
    status = world.at_rest(key)
    charged, invoice = status["spent"], world.invoice()["invoice_nano"]
    limit = w.nano(flags[flags.index("--daily") + 1])
    assert invoice <= charged <= limit, f"invoice {invoice} <= charged {charged} <= limit {limit} does not hold"
    if books == "exact":
        same(charged, invoice)
    for request in world.seen_by_mock():
        for name, value in request["headers"]:
            assert not name.lower().startswith("x-loopers"), f"{name} reached the provider"
            assert "lp-" not in value, f"a proxy key reached the provider in {name}"
        assert "lp-" not in request["path"] + request["body"], "a proxy key reached the provider"
    return invoice, charged


def run(world, name, function, flags, books):
    world.reset_mock()
    key = world.key(name.replace("_", "-"), *flags)
    bench = Bench(world, key)
    start = time.monotonic()
    try:
        function(bench)
        invoice, charged = check_books(world, key, flags, books)
    finally:
        bench.close()
    print(f"ok   {name}: invoice {invoice}, charged {charged} nano-dollars, {time.monotonic() - start:.2f} s", flush=True)


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    tests = [row for row in TESTS if wanted in row[0]]
    if not tests:
        print("no test has that name")
        sys.exit(w.NOTHING_RAN)
    print(f"openai {openai.__version__}, {len(tests)} tests", flush=True)
    failed = []
    with w.World(os.environ.get("LOOPERS_BIN", w.ROOT / "target/debug/loopers")) as world:
        for row in tests:
            try:
                run(world, *row)
            except Exception:
                failed.append(row[0])
                print(f"FAIL {row[0]}\n{traceback.format_exc()}", flush=True)
        if failed:
            print(f"--- the gateway's log, last lines\n{world.log('serve')[-4000:]}", flush=True)
        overrun = world.metric("loopers_overrun_usd_total")
        if overrun:
            failed.append(f"overrun_usd_total is {overrun}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    print(f"all {len(tests)} passed")


if __name__ == "__main__":
    main()
