// What every official SDK for JavaScript is put through, and the books after it.
//
// Each scenario runs with a key of its own and a mock with empty books. After it, at rest, nothing is held, charged =
// invoice to the nano-dollar (`exact`) or invoice <= charged <= hold (`bounded`: the stream was ended before the provider
// said what it costs), and neither proxy key nor X-Loopers header reached the provider.
//
// An SDK is an adapter; texts go in, plain values come out, errors are the SDK's own and pass through:
//   name, provider, version
//   open(base, key)                        a client with the SDK's own defaults: only address and key are given
//   plain(client, text)                    {text, tokens, natural}: output tokens, and whether it ended naturally
//   stream(client, text, {maxTokens, signal})   yields {text} and {final: {tokens, natural}}
//   tool(client, text, streamed)           the name of the tool that the model called; absent where the API has none
//   embed(client, texts)                   the vectors; absent where the SDK has none for this API
//   free(client, text)                     {models, tokens} by the routes that cost nothing, as far as the API has them;
//                                          absent where the SDK has none
//   refused cut badRequest dropped         names of the very classes that are raised
//   status(error), detail(error)           HTTP status; the refusal's `loopers` object, or undefined where the shape has no place
//   billsErrors                            some of the provider's own errors are billed: one that may be is charged at most its hold
//   refusedStatus                          402 unless it says otherwise
//   cutDaily                               daily limit that 8,000 tokens cross in `cut` mode; absent where no model may be cut

import assert from 'node:assert/strict';
import { CONFIG_PROVIDER_KEY, nano } from './world.mjs';

export const WEATHER = {
  name: 'get_weather',
  description: 'The weather of a city',
  schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
// A refusal takes no waiting; a stream is cut within a second, and half of one is left for the machine.
const REFUSAL_MS = 2000;
const CUT_MS = 1500;

const mock = (script) => `Say something. [[mock ${script}]]`;

/** The error, which must be of one of these very classes. */
async function raises(names, call) {
  try {
    await call();
  } catch (error) {
    if (names.includes(error.constructor.name)) return error;
    throw new Error(`${error.constructor.name} instead of ${names}: ${error.message}`, { cause: error });
  }
  throw new Error(`none of ${names} was raised`);
}

/** One scenario's view: the world, the key, the SDK and a client of it. */
class Bench {
  constructor(world, sdk, key) {
    Object.assign(this, { world, sdk, key });
    this.wireAtStart = world.relay.requests.length;
    this.heldAtStart = world.relay.held.length;
    this.heldHttp2 = 0n;
    world.relay.sawHttp2 = false;
    this.client = sdk.open(`http://127.0.0.1:${world.relay.port}/${sdk.provider}`, key.key);
  }

  wire() {
    return this.world.relay.requests.length - this.wireAtStart;
  }

  /** What the gateway said that it holds, over all calls of the scenario. */
  held() {
    return this.world.relay.held.slice(this.heldAtStart).reduce((sum, held) => sum + held, this.heldHttp2);
  }

  /** A stream. HTTP/2 compresses headers, so there the ledger is asked what is held, when the first event is here. */
  async *stream(text, options = {}) {
    let asked = false;
    for await (const event of this.sdk.stream(this.client, text, options)) {
      if (!asked && this.world.relay.sawHttp2) this.heldHttp2 += (await this.world.status(this.key)).held;
      asked = true;
      yield event;
    }
  }

  async collect(seen, text, options = {}) {
    for await (const event of this.stream(text, options)) seen.push(event);
    return seen;
  }
}

const finals = (seen) => seen.filter((event) => event.final).map((event) => event.final);
const naturalEnds = (seen) => finals(seen).filter((final) => final.natural);

const SCENARIOS = {
  async plain(t) {
    const answer = await t.sdk.plain(t.client, mock('tokens=30'));
    assert.ok(answer.text && answer.natural, JSON.stringify(answer));
    assert.equal(answer.tokens, 30);
    assert.equal(t.wire(), 1);
    assert.ok((await t.world.atRest(t.key)).spent > 0n);
  },

  async stream(t) {
    const seen = await t.collect([], mock('tokens=40'));
    assert.ok(seen.some((event) => event.text), 'no text');
    assert.deepEqual(finals(seen).at(-1), { tokens: 40, natural: true });
    assert.equal(t.wire(), 1);
    assert.ok((await t.world.atRest(t.key)).spent > 0n);
  },

  async tools(t) {
    if (!t.sdk.tool) return 'the API has none';
    for (const streamed of [false, true]) {
      assert.equal(await t.sdk.tool(t.client, mock('tokens=20;tool_call=1'), streamed), WEATHER.name);
    }
    assert.equal(t.wire(), 2);
  },

  async embeddings(t) {
    if (!t.sdk.embed) return 'the SDK has none for this API';
    const vectors = await t.sdk.embed(t.client, ['one', 'two two']);
    assert.equal(vectors.length, 2);
    for (const vector of vectors) assert.equal(typeof vector[0], 'number');
    assert.ok((await t.world.atRest(t.key)).spent > 0n);
  },

  async free_routes(t) {
    if (!t.sdk.free) return 'the SDK has none for this API';
    const { models, tokens } = await t.sdk.free(t.client, 'one two three four');
    assert.ok(models || tokens !== undefined, 'nothing was asked for');
    assert.ok(!models || models.length > 1, `${models}`);
    assert.ok(tokens === undefined || tokens >= 4, `${tokens}`);
    assert.equal(t.wire(), (models ? 1 : 0) + (tokens === undefined ? 0 : 1));
    assert.equal((await t.world.atRest(t.key)).spent, 0n);
  },

  async refusal(t) {
    for (const streamed of [false, true]) {
      const [wire, start] = [t.wire(), performance.now()];
      const text = mock('tokens=20');
      const error = await raises(t.sdk.refused, () => (streamed ? t.collect([], text) : t.sdk.plain(t.client, text)));
      assert.ok(performance.now() - start < REFUSAL_MS, 'a refusal takes no waiting');
      assert.equal(t.wire() - wire, 1);
      assert.equal(t.sdk.status(error), t.sdk.refusedStatus ?? 402);
      const detail = t.sdk.detail(error);
      if (detail) {
        assert.deepEqual([detail.code, detail.level, detail.window], ['budget_exceeded', 'key', 'daily']);
        assert.equal(nano(detail.limit_usd), 1000n);
      }
      assert.match(error.message, /budget/);
    }
    assert.equal((await t.world.invoice()).requests, 0);
  },

  async error_of_the_provider(t) {
    const error = await raises(t.sdk.badRequest, () => t.sdk.plain(t.client, mock('status=400')));
    assert.equal(t.sdk.status(error), 400);
    assert.equal(t.wire(), 1);
  },

  async cut_by_the_budget(t) {
    const seen = [];
    await raises(t.sdk.cut, () => t.collect(seen, mock('tokens=8000;rate=4000;leave=stop')));
    assert.ok(seen.some((event) => event.text), 'the stream had begun');
    assert.deepEqual(naturalEnds(seen), []);
    assert.equal(t.wire(), 1);
  },

  async cut_by_the_kill_switch(t) {
    const seen = [];
    let killed;
    await raises(t.sdk.cut, async () => {
      for await (const event of t.stream(mock('tokens=100;rate=40'), { maxTokens: 200 })) {
        seen.push(event);
        if (killed || !event.text) continue;
        await t.world.run('kill', t.key.id, '--json');
        killed = performance.now();
      }
    });
    assert.ok(performance.now() - killed < CUT_MS, `cut after ${performance.now() - killed} ms`);
    assert.deepEqual(naturalEnds(seen), []);
    assert.equal(t.wire(), 1);
  },

  async dropped_by_the_provider(t) {
    const seen = [];
    await raises(t.sdk.dropped, () => t.collect(seen, mock('tokens=60;rate=50;die_at=20'), { maxTokens: 200 }));
    assert.deepEqual(naturalEnds(seen), []);
    assert.equal(t.wire(), 1);
  },

  async hang_up(t) {
    const controller = new AbortController();
    let texts = 0;
    try {
      const options = { maxTokens: 200, signal: controller.signal };
      for await (const event of t.stream(mock('tokens=100;rate=100'), options)) {
        if (event.text && ++texts === 5) break;
      }
      controller.abort();
    } finally {
      t.sdk.hangUp?.(t.client);
    }
    assert.equal(texts, 5);
    assert.equal((await t.world.invoice()).in_flight, 1, 'the provider is still generating when the client leaves');
    assert.equal(t.wire(), 1);
  },
};

const FLAGS = { refusal: ['--daily', '0.000001'] };
const BOUNDED = ['cut_by_the_budget', 'cut_by_the_kill_switch', 'dropped_by_the_provider'];

async function checkBooks(t, name) {
  const isBounded = BOUNDED.includes(name);
  const { spent: charged } = await t.world.atRest(t.key);
  const invoice = BigInt((await t.world.invoice()).invoice_nano);
  if (name === 'error_of_the_provider' && t.sdk.billsErrors) {
    const held = t.held();
    assert.ok(invoice <= charged && charged <= held, `invoice ${invoice} <= charged ${charged} <= hold ${held}`);
  } else if (isBounded) {
    const held = t.held();
    assert.ok(0n < invoice && invoice <= charged && charged <= held, `0 < invoice ${invoice} <= charged ${charged} <= hold ${held}`);
  } else {
    assert.equal(charged, invoice, 'charged is not the invoice');
  }
  for (const { path, body, headers } of await t.world.seenByMock()) {
    const texts = [path, body, ...headers.map(([, value]) => value)];
    assert.ok(!texts.some((text) => text.includes('lp-')), 'a proxy key reached the provider');
    assert.deepEqual(headers.filter(([name]) => name.toLowerCase().startsWith('x-loopers')), []);
    assert.ok(texts.some((text) => text.includes(CONFIG_PROVIDER_KEY)), "the provider's key did not reach the provider");
  }
  assert.deepEqual(t.world.relay.problems, []);
  return `invoice ${invoice}, charged ${charged} nano-dollars`;
}

async function runOne(world, sdk, name) {
  let flags = FLAGS[name] ?? ['--daily', '5'];
  if (name === 'cut_by_the_budget') {
    if (!sdk.cutDaily) return { remark: 'no model of this API may be cut by the budget; limits are clamped' };
    flags = ['--daily', sdk.cutDaily, '--overflow', 'cut'];
  }
  await world.resetMock();
  const bench = new Bench(world, sdk, await world.key(`sdk-${sdk.name}-${name}`.replaceAll(/[^a-z0-9-]/g, '-'), flags));
  const remark = await SCENARIOS[name](bench);
  return remark ? { remark } : { told: await checkBooks(bench, name) };
}

/** Runs the scenarios with `wanted` in `sdk/scenario`; how many ran, and the names of those that failed. */
export async function runAll(world, sdk, wanted) {
  const failed = [];
  let count = 0;
  for (const name of Object.keys(SCENARIOS)) {
    const full = `${sdk.name}/${name}`;
    if (!full.includes(wanted)) continue;
    const start = performance.now();
    try {
      const { told, remark } = await runOne(world, sdk, name);
      if (told) count += 1;
      const seconds = ((performance.now() - start) / 1000).toFixed(2);
      console.log(told ? `ok   ${full}: ${told}, ${seconds} s` : `-    ${full}: not applicable: ${remark}`);
    } catch (error) {
      failed.push(full);
      console.log(`FAIL ${full}\n${error.stack}${error.stderr ? `\n${error.stderr}` : ''}`);
    }
  }
  return { count, failed };
}
