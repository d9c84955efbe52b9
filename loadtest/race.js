// The budget race: hundreds of users spend from one key, through every gateway at once, far beyond its limit.
//
// VUS users call for DURATION; a watcher reads the key's books all the while. It fails when one nano-dollar was billed,
// charged, or spent and held beyond the limit, and also when the limit was never reached: such a race would prove nothing.

import { sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { BOOKS, KEYS, booksRead, budget, chat, closeBooks, dollarsOverCap, duration, month, number, surprise } from './common.js';

const KEY = KEYS[0];
const DURATION = duration('20s');

const granted = new Counter('calls_granted');
const refused = new Counter('calls_refused');
const usedUp = new Trend('limit_used');

export const options = {
  scenarios: {
    race: { executor: 'constant-vus', vus: number('VUS', 300), duration: DURATION, gracefulStop: '30s', exec: 'race' },
    watch: { executor: 'constant-vus', vus: 1, duration: DURATION, gracefulStop: '10s', exec: 'watch' },
  },
  thresholds: Object.assign({}, BOOKS, {
    calls_granted: ['count>0'],
    calls_refused: ['count>0'],
    books_read: ['count>=10'],
    // The share of the limit that was spent at the end: the race went to the limit, not just near it.
    limit_used: ['max>0.98'],
  }),
};

export function setup() {
  return month();
}

export function race() {
  const answer = chat(KEY, 'tokens=50', { max_tokens: 64, stream: __ITER % 4 === 0 });
  if (answer.status === 200) {
    granted.add(1);
  } else if (answer.status === 402 && answer.json('error.code') === 'budget_exceeded') {
    refused.add(1);
    // As a program that was refused would do, if it did not give up.
    sleep(0.2);
  } else {
    surprise('race', answer);
  }
}

export function watch() {
  const now = budget(KEY);
  if (now) {
    booksRead.add(1);
    dollarsOverCap.add(Math.max(0, now.spent + now.held - now.limit) / 1e9);
  }
  sleep(0.1);
}

export function teardown(monthBefore) {
  closeBooks(monthBefore);
  const end = budget(KEY);
  usedUp.add(end.spent / end.limit);
}
