// A mixed load at a steady rate for as long as wanted: RATE calls a second for DURATION, on several keys and sessions.
//
// Answers at once, streams, long bodies, embeddings, the provider's own rate limit, refusals, and clients that leave in
// mid-stream, whose calls the gateway reads to their usage. No call ends in doubt, so the books must be exact. (The
// provider's 5xx would: it may have billed, so the hold is charged.) run.sh shows memory before and after.

import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import { BOOKS, KEYS, chat, closeBooks, duration, month, number, post, surprise } from './common.js';

const RATE = number('RATE', 50);

const calls = new Counter('calls');
const left = new Counter('clients_that_left');

export const options = {
  scenarios: {
    soak: {
      executor: 'constant-arrival-rate', rate: RATE, timeUnit: '1s', duration: duration('5m'),
      preAllocatedVUs: Math.ceil(RATE * 2), maxVUs: RATE * 10, gracefulStop: '60s',
    },
  },
  thresholds: Object.assign({
    calls: ['count>0'],
    dropped_iterations: ['count==0'],
    'calls{kind:chat}': ['count>0'],
    'calls{kind:stream}': ['count>0'],
    'calls{kind:left}': ['count>0'],
    'http_req_duration{kind:chat}': ['p(99)<5000'],
  }, BOOKS),
};

const LONG = 'The quick brown fox jumps over the lazy dog. '.repeat(200);

// [share in percent, name, call]
const MIX = [
  [40, 'chat', (key, tags) => expect(200, chat(key, 'tokens=40', { max_tokens: 64 }, tags))],
  [25, 'stream', (key, tags) => expect(200, chat(key, 'tokens=60;rate=60', { max_tokens: 80, stream: true }, tags))],
  [10, 'long', (key, tags) => expect(200, post('/openai/v1/chat/completions', key, {
    model: 'gpt-4o-mini', max_tokens: 32, messages: [{ role: 'user', content: `${LONG}[[mock tokens=20]]` }],
  }, tags))],
  [10, 'embedding', (key, tags) => expect(200, post('/openai/v1/embeddings', key, { model: 'text-embedding-3-small', input: LONG }, tags))],
  [5, 'provider_error', (key, tags) => expect(429, chat(key, 'status=429', { max_tokens: 16 }, tags))],
  [5, 'refused', (key, tags) => expect(422, chat(key, 'tokens=1', { model: 'no-such-model' }, tags))],
  [5, 'left', leaves],
];

function expect(status, answer) {
  if (answer.status !== status) surprise(`expected ${status}`, answer);
}

function leaves(key, tags) {
  const answer = chat(key, 'tokens=60;rate=30', { max_tokens: 80, stream: true }, Object.assign({ timeout: '500ms' }, tags));
  if (answer.error_code === 1050) left.add(1);
  else surprise('should have left in mid-stream', answer);
}

export function setup() {
  return month();
}

export default function soak() {
  const number = exec.scenario.iterationInTest;
  const key = KEYS[number % KEYS.length];
  // A fixed order that is spread over the hundred, so that every run and every key has the same mix.
  let place = (number * 37) % 100;
  const [, kind, call] = MIX.find(([share]) => (place -= share) < 0);
  calls.add(1, { kind });
  call(key, { tags: { kind }, headers: { 'x-loopers-session-id': `soak-${number % 50}` } });
}

export function teardown(monthBefore) {
  closeBooks(monthBefore);
}
