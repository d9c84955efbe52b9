"""What every official SDK for Python is put through, and the books after it.

An SDK is an adapter (see `Adapter`); each scenario runs with a key of its own and a mock with empty books. After it, at
rest, nothing is held, charged = invoice to the nano-dollar (`exact`) or invoice <= charged <= hold (`bounded`: the
stream was ended before the provider said what it costs), and neither proxy key nor X-Loopers header reached the provider.
"""

import contextlib
import time
import traceback

import world as w

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
# A refusal takes no waiting; a stream is cut within a second, and half of one is left for the machine.
REFUSAL_SECONDS = 2
CUT_SECONDS = 1.5
SCENARIOS = []


class Adapter:
    """One SDK. Texts go in; out come plain values. Errors are the SDK's own and pass through."""

    name = provider = ""
    # Classes raised on a refusal, on an error event in mid-stream, on the provider's own 400, and on a dropped connection.
    refused = cut = bad_request = dropped = ()
    refused_status = 402
    # A daily limit that a stream of 8,000 tokens crosses in `cut` mode; None where no model may be cut.
    cut_daily = None
    has_embeddings = has_tools = True
    # True where some of the provider's own errors are billed: one that may be is charged at most its hold.
    bills_errors = False
    # True where the SDK sends its key by HTTPS only; `certificate` is then the PEM file that it must trust.
    needs_https, certificate = False, None

    def version(self):
        raise NotImplementedError

    def open(self, base, key):
        """A client of the SDK with its own defaults: only address and key are given."""
        raise NotImplementedError

    def plain(self, client, text, max_tokens=None):
        """`(text, output tokens, ended naturally)` of a call that is not streamed."""
        raise NotImplementedError

    @contextlib.contextmanager
    def stream(self, client, text, max_tokens=None):
        """An iterator of `(text or None, final or None)`; final is `(output tokens, ended naturally)`. Leaving hangs up."""
        raise NotImplementedError

    def tool(self, client, text, streamed):
        """The name of the tool that the model called."""
        raise NotImplementedError

    def embed(self, client, texts):
        """The vectors."""
        raise NotImplementedError

    def free(self, client, text):
        """`(names of models, input tokens)` by the routes that cost nothing; None for what the API has not."""
        raise NotImplementedError

    def detail(self, error):
        """The refusal's `loopers` object, or None where the API's shape has no place for it."""
        raise NotImplementedError


class Bench:
    """One scenario's view: the world, the key, the SDK and a client of it."""

    def __init__(self, world, sdk, key):
        self.world, self.sdk, self.key = world, sdk, key
        self.wire_at_start = len(world.relay.requests)
        self.held_at_start = len(world.relay.held)
        self.client = sdk.open(f"{world.base}/{sdk.provider}", key["key"])

    def on_the_wire(self):
        return len(self.world.relay.requests) - self.wire_at_start

    def held(self):
        """What the gateway said that it holds, over all calls of the scenario."""
        return sum(self.world.relay.held[self.held_at_start :])

    def collect(self, seen, text, **options):
        with self.sdk.stream(self.client, text, **options) as events:
            for event in events:
                seen.append(event)
        return seen


def raises(kinds, call):
    """The error, which must be of one of these very classes: a mere subclass of Exception is not good enough."""
    try:
        call()
    except Exception as error:
        if type(error) in kinds:
            return error
        raise AssertionError(f"{type(error).__name__} instead of {[kind.__name__ for kind in kinds]}: {error}") from error
    raise AssertionError(f"none of {[kind.__name__ for kind in kinds]} was raised")


def same(found, wanted):
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


def mock(script):
    return f"Say something. [[mock {script}]]"


def scenario(*key_flags, books="exact"):
    def register(function):
        SCENARIOS.append((function.__name__, function, key_flags, books))
        return function

    return register


@scenario("--daily", "5")
def plain(t):
    text, tokens, natural = t.sdk.plain(t.client, mock("tokens=30"))
    assert text and natural, (text, natural)
    same(tokens, 30)
    same(t.on_the_wire(), 1)
    assert t.world.at_rest(t.key)["spent"] > 0


@scenario("--daily", "5")
def stream(t):
    seen = t.collect([], mock("tokens=40"))
    assert "".join(text for text, _ in seen if text), "no text"
    finals = [final for _, final in seen if final]
    same(finals[-1:], [(40, True)])
    same(t.on_the_wire(), 1)
    assert t.world.at_rest(t.key)["spent"] > 0


@scenario("--daily", "5")
def tools(t):
    if not t.sdk.has_tools:
        return "the API has none"
    for streamed in (False, True):
        same(t.sdk.tool(t.client, mock("tokens=20;tool_call=1"), streamed), WEATHER["name"])
    same(t.on_the_wire(), 2)


@scenario("--daily", "5")
def embeddings(t):
    if not t.sdk.has_embeddings:
        return "the SDK has none for this API"
    vectors = t.sdk.embed(t.client, ["one", "two two"])
    same(len(vectors), 2)
    assert all(isinstance(vector[0], float) for vector in vectors)
    assert t.world.at_rest(t.key)["spent"] > 0


@scenario("--daily", "5")
def free_routes(t):
    models, tokens = t.sdk.free(t.client, "one two three four")
    assert models is not None or tokens is not None, "nothing was asked for"
    assert models is None or len(models) > 1, models
    assert tokens is None or tokens >= 4, tokens
    same(t.on_the_wire(), (models is not None) + (tokens is not None))
    same(t.world.at_rest(t.key)["spent"], 0)


@scenario("--daily", "0.000001")
def refusal(t):
    for streamed in (False, True):
        wire, start = t.on_the_wire(), time.monotonic()
        call = (lambda: t.collect([], mock("tokens=20"))) if streamed else (lambda: t.sdk.plain(t.client, mock("tokens=20")))
        error = raises(t.sdk.refused, call)
        assert time.monotonic() - start < REFUSAL_SECONDS, f"a refusal took {time.monotonic() - start:.1f} s"
        same(t.on_the_wire() - wire, 1)
        same(t.sdk.status(error), t.sdk.refused_status)
        detail = t.sdk.detail(error)
        if detail is not None:
            same((detail["code"], detail["level"], detail["window"]), ("budget_exceeded", "key", "daily"))
            same(w.nano(detail["limit_usd"]), 1000)
        assert "budget" in str(error), f"the text says nothing of a budget: {error}"
    same(t.world.invoice()["requests"], 0)


@scenario("--daily", "5", books="error")
def error_of_the_provider(t):
    error = raises(t.sdk.bad_request, lambda: t.sdk.plain(t.client, mock("status=400")))
    same(t.sdk.status(error), 400)
    same(t.on_the_wire(), 1)


@scenario("--daily", "CUT", "--overflow", "cut", books="bounded")
def cut_by_the_budget(t):
    seen = []
    raises(t.sdk.cut, lambda: t.collect(seen, mock("tokens=8000;rate=4000;leave=stop")))
    assert any(text for text, _ in seen), "the stream had begun"
    same([final for _, final in seen if final and final[1]], [])
    same(t.on_the_wire(), 1)


@scenario("--daily", "5", books="bounded")
def cut_by_the_kill_switch(t):
    seen, killed = [], []

    def read():
        with t.sdk.stream(t.client, mock("tokens=100;rate=40"), max_tokens=200) as events:
            for event in events:
                seen.append(event)
                if not killed and event[0]:
                    t.world.run("kill", t.key["id"], "--json")
                    killed.append(time.monotonic())

    raises(t.sdk.cut, read)
    assert time.monotonic() - killed[0] < CUT_SECONDS, f"cut after {time.monotonic() - killed[0]:.2f} s"
    same([final for _, final in seen if final and final[1]], [])
    same(t.on_the_wire(), 1)


@scenario("--daily", "5", books="bounded")
def dropped_by_the_provider(t):
    seen = []
    raises(t.sdk.dropped, lambda: t.collect(seen, mock("tokens=60;rate=400;die_at=20"), max_tokens=200))
    same([final for _, final in seen if final and final[1]], [])
    same(t.on_the_wire(), 1)


@scenario("--daily", "5")
def hang_up(t):
    texts = 0
    with t.sdk.stream(t.client, mock("tokens=100;rate=100"), max_tokens=200) as events:
        for text, _ in events:
            texts += bool(text)
            if texts == 5:
                break
    same(t.world.invoice()["in_flight"], 1)
    same(t.on_the_wire(), 1)


def check_books(t, books):
    charged = t.world.at_rest(t.key)["spent"]
    invoice = t.world.invoice()["invoice_nano"]
    if t.sdk.bills_errors and books == "error":
        held = t.held()
        assert invoice <= charged <= held, f"invoice {invoice} <= charged {charged} <= hold {held} does not hold"
    elif books in ("exact", "error"):
        same(("charged", charged), ("charged", invoice))
    else:
        held = t.held()
        assert 0 < invoice <= charged <= held, f"0 < invoice {invoice} <= charged {charged} <= hold {held} does not hold"
    for request in t.world.seen_by_mock():
        texts = [request["path"], request["body"]] + [value for _, value in request["headers"]]
        assert not any("lp-" in text for text in texts), "a proxy key reached the provider"
        names = [name for name, _ in request["headers"] if name.lower().startswith("x-loopers")]
        assert not names, f"{names} reached the provider"
        assert any(w.CONFIG_PROVIDER_KEY in text for text in texts), "the provider's key did not reach the provider"
    same(t.world.relay.problems, [])
    return f"invoice {invoice}, charged {charged} nano-dollars"


def run_one(world, sdk, name, function, flags, books):
    if "CUT" in flags:
        if sdk.cut_daily is None:
            return "not applicable: no model of this API may be cut by the budget; limits are clamped"
        flags = [sdk.cut_daily if flag == "CUT" else flag for flag in flags]
    world.reset_mock()
    bench = Bench(world, sdk, world.key(f"{sdk.name}-{name}".replace("_", "-"), *flags))
    remark = function(bench)
    return f"not applicable: {remark}" if remark else check_books(bench, books)


def run(world, sdk, wanted):
    """Runs the scenarios with `wanted` in `sdk/scenario`; returns how many ran and the names of those that failed."""
    failed, count = [], 0
    for name, *row in SCENARIOS:
        full = f"{sdk.name}/{name}"
        if wanted not in full:
            continue
        start = time.monotonic()
        try:
            told = run_one(world, sdk, name, *row)
            applies = not told.startswith("not applicable")
            count += applies
            print(f"{'ok  ' if applies else '-   '} {full}: {told}, {time.monotonic() - start:.2f} s", flush=True)
        except Exception:
            failed.append(full)
            print(f"FAIL {full}\n{traceback.format_exc()}", flush=True)
    return count, failed
