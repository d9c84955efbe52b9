// Every kind of answer once or a few times, each looked at closely. Quick: a few seconds.

import http from 'k6/http';
import { check } from 'k6';
import { BOOKS, KEYS, chat, closeBooks, gateway, month, post } from './common.js';

const [KEY, POOR] = KEYS;

export const options = {
  scenarios: {
    smoke: { executor: 'per-vu-iterations', vus: 4, iterations: 5, maxDuration: '60s' },
  },
  thresholds: Object.assign({ checks: ['rate==1'], 'checks{kind:refusal}': ['rate==1'], iterations: ['count==20'] }, BOOKS),
};

export function setup() {
  return month();
}

export default function smoke() {
  health();
  answers();
  refusals();
}

function health() {
  check(http.get(`${gateway()}/healthz`), { 'alive': (r) => r.status === 200 });
  check(http.get(`${gateway()}/readyz`), { 'ready': (r) => r.status === 200 });
}

function answers() {
  check(chat(KEY, 'tokens=20', { max_tokens: 40 }), {
    'chat: answered': (r) => r.status === 200 && r.json('choices.0.message.content').length > 0,
    'chat: usage': (r) => r.json('usage.completion_tokens') === 20,
    'chat: exact cost in a header': (r) => /^0\.0000\d+$/.test(r.headers['X-Loopers-Cost-Usd']),
    'chat: money left in a header': (r) => Number(r.headers['X-Loopers-Remaining-Usd']) > 0,
    'chat: has a request id': (r) => r.headers['X-Request-Id'].length > 0,
  });
  check(chat(KEY, 'tokens=20', { max_tokens: 40, stream: true }), {
    'stream: answered': (r) => r.status === 200 && r.headers['Content-Type'].startsWith('text/event-stream'),
    'stream: whole': (r) => r.body.trimEnd().endsWith('data: [DONE]'),
    'stream: 20 tokens': (r) => r.body.split('"content":" ').length - 1 === 20,
  });
  check(post('/openai/v1/embeddings', KEY, { model: 'text-embedding-3-small', input: 'four words are here' }), {
    'embedding: answered': (r) => r.status === 200 && r.json('data.0.embedding').length > 0,
  });
  check(http.get(`${gateway()}/openai/v1/models`, { headers: { authorization: `Bearer ${KEY}` } }), {
    'models: answered': (r) => r.status === 200,
  });
}

function refusals() {
  const refused = (name, status, code, answer) =>
    check(answer, {
      [`${name}: ${status} ${code}`]: (r) => r.status === status && r.json('error.code') === code,
      [`${name}: not to be retried`]: (r) => r.headers['X-Should-Retry'] === 'false' && !r.headers['Retry-After'],
    }, { kind: 'refusal' });
  refused('wrong key', 401, 'invalid_key', chat(`lp-${'0'.repeat(43)}`, 'tokens=1'));
  refused('no money', 402, 'budget_exceeded', chat(POOR, 'tokens=1'));
  refused('unknown model', 422, 'unknown_model', chat(KEY, 'tokens=1', { model: 'no-such-model' }));
  refused('unmetered route', 404, 'unknown_route', post('/openai/v1/images/generations', KEY, { prompt: 'x' }));
  refused('not a number', 400, 'invalid_request', chat(KEY, 'tokens=1', { max_tokens: 'many' }));
}

export function teardown(monthBefore) {
  closeBooks(monthBefore);
}
