// What the load tests share: where things are, how a call is made, and the books at the end.
//
// run.sh sets the environment: GATEWAYS and KEYS (comma separated), MOCK, and the sizes that each script names.

import http from 'k6/http';
import { fail, sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import exec from 'k6/execution';

const GATEWAYS = required('GATEWAYS').split(',');
export const KEYS = required('KEYS').split(',');
const MOCK = required('MOCK');
const REST_SECONDS = 30;

// Dollars that were billed, charged, or spent and held beyond a limit. A Trend, so that no sample hides another.
export const dollarsOverCap = new Trend('dollars_over_cap');
// Invoice and charge differ, in dollars, with every call ended.
const booksApart = new Trend('books_apart_usd');
// Without samples a threshold holds: these say that the books were looked at.
export const booksRead = new Counter('books_read');
export const unexpected = new Counter('unexpected_answers');

// The thresholds of every script.
export const BOOKS = {
  dollars_over_cap: ['max<=0'],
  books_apart_usd: ['max<=0'],
  books_read: ['count>=1'],
  unexpected_answers: ['count==0'],
};

function required(name) {
  if (!__ENV[name]) throw new Error(`${name} is not set: start this with loadtest/run.sh`);
  return __ENV[name];
}

export function number(name, otherwise) {
  const value = Number(__ENV[name] || otherwise);
  if (!(value > 0)) throw new Error(`${name} must be a number above 0, not ${__ENV[name]}`);
  return value;
}

export function duration(otherwise) {
  return __ENV.DURATION || otherwise;
}

// Gateways take turns, call by call and user by user.
export function gateway() {
  return GATEWAYS[(exec.vu.idInTest + exec.vu.iterationInInstance) % GATEWAYS.length];
}

export function post(path, key, body, options) {
  const parameters = Object.assign({ timeout: '60s', responseType: 'text' }, options);
  parameters.headers = Object.assign({ 'content-type': 'application/json', authorization: `Bearer ${key}` }, parameters.headers);
  return http.post(`${gateway()}${path}`, JSON.stringify(body), parameters);
}

// `script` tells the mock what to do, see docs/MOCK.md.
export function chat(key, script, more, options) {
  const body = {
    model: 'gpt-4o-mini',
    messages: [
      { role: 'system', content: 'You are a terse assistant.' },
      { role: 'user', content: `Name three rivers of Europe and the countries they run through. [[mock ${script}]]` },
    ],
  };
  return post('/openai/v1/chat/completions', key, Object.assign(body, more), options);
}

export function surprise(what, answer) {
  unexpected.add(1);
  console.error(`${what}: status ${answer.status} ${answer.error} ${String(answer.body).slice(0, 300)}`);
}

// An amount in USD, as the gateway writes it, in whole nano-dollars: exact up to 2^53.
export function nano(usd) {
  const found = /^(\d+)(?:\.(\d{1,9}))?$/.exec(usd);
  if (!found) fail(`not an amount: ${usd}`);
  return Number(found[1]) * 1e9 + Number((found[2] || '').padEnd(9, '0'));
}

// The monthly window of a key.
export function budget(key) {
  const answer = http.get(`${gateway()}/loopers/v1/budget`, { headers: { authorization: `Bearer ${key}` } });
  if (answer.status !== 200) {
    surprise('the budget cannot be read', answer);
    return null;
  }
  const level = answer.json('levels').find((one) => one.level === 'key');
  const month = level.windows.find((one) => one.window === 'monthly');
  return {
    limit: month.limit_usd === null ? Infinity : nano(month.limit_usd),
    spent: nano(month.spent_usd),
    held: nano(month.held_usd),
    resets_at: month.resets_at,
  };
}

// For setup(): which month it is. A limit that resets in mid-run would be no limit.
export function month() {
  return budget(KEYS[0]).resets_at;
}

// For teardown(): waits until every call has ended, then compares invoice, charge and limits. `exact: false` where calls
// end in doubt, which charges more than the invoice, never less.
export function closeBooks(monthBefore, { exact = true } = {}) {
  const all = atRest();
  if (all.some((one) => one.resets_at !== monthBefore)) fail('the month turned in mid-run: run it again');
  const invoice = http.get(`${MOCK}/invoice`).json('invoice_nano');
  const charged = all.reduce((sum, one) => sum + one.spent, 0);
  const limit = all.reduce((sum, one) => sum + one.limit, 0);
  booksRead.add(1);
  booksApart.add(exact ? Math.abs(charged - invoice) / 1e9 : Math.max(0, invoice - charged) / 1e9);
  dollarsOverCap.add(Math.max(0, invoice - limit) / 1e9);
  for (const one of all) dollarsOverCap.add(Math.max(0, one.spent + one.held - one.limit) / 1e9);
}

function atRest() {
  for (let tries = 0; tries < REST_SECONDS * 5; tries += 1) {
    const all = KEYS.map(budget);
    const idle = http.get(`${MOCK}/invoice`).json('in_flight') === 0;
    if (idle && all.every((one) => one && one.held === 0)) return all;
    sleep(0.2);
  }
  return fail(`calls or holds are still open after ${REST_SECONDS} s`);
}
