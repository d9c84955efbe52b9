// Many streams at once: VUS of them, each RATE tokens a second and TOKENS long, one after the other for DURATION.
//
// k6 hands a stream over as one body: whether it came piece by piece is not seen here, but that it is whole is.

import { Counter, Trend } from 'k6/metrics';
import { BOOKS, KEYS, chat, closeBooks, duration, month, number, surprise } from './common.js';

const TOKENS = number('TOKENS', 60);
const RATE = number('RATE', 20);

const whole = new Counter('streams_whole');
const stretch = new Trend('stream_delay_ms', true);

export const options = {
  scenarios: {
    streams: { executor: 'constant-vus', vus: number('VUS', 200), duration: duration('20s'), gracefulStop: '60s' },
  },
  thresholds: Object.assign({
    streams_whole: ['count>0'],
    http_req_failed: ['rate==0'],
    // Head of the answer after at most this; and beyond the mock's own pace a stream takes at most this longer.
    http_req_waiting: ['p(95)<2000'],
    stream_delay_ms: ['p(95)<3000'],
  }, BOOKS),
};

export function setup() {
  return month();
}

export default function streams() {
  const more = { max_tokens: TOKENS + 10, stream: true, stream_options: { include_usage: true } };
  const answer = chat(KEYS[0], `tokens=${TOKENS};rate=${RATE}`, more);
  const events = answer.status === 200 ? answer.body.split('\n\n') : [];
  const usage = events.map((event) => /"completion_tokens":(\d+)/.exec(event)).find((found) => found);
  const text = events.filter((event) => event.includes('"content":" ')).length;
  if (!answer.body || !answer.body.trimEnd().endsWith('data: [DONE]') || !usage || Number(usage[1]) !== TOKENS || text !== TOKENS) {
    surprise('a stream is not whole', answer);
    return;
  }
  whole.add(1);
  stretch.add(answer.timings.duration - (TOKENS / RATE) * 1000);
}

export function teardown(monthBefore) {
  closeBooks(monthBefore);
}
