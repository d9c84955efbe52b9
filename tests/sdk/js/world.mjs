// A small world for tests from outside: mock provider, counting relay, gateway, keys. Node's own modules only.
//
//     client -> Relay (counts requests on the wire) -> loopers serve -> loopers mock (keeps the invoice)
//
// Everything listens on free loopback ports, lives in one temporary folder, and is ended by process id.

import { execFile, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

export const ROOT = resolve(import.meta.dirname, '../../..');
export const CONFIG_PROVIDER_KEY = 'sk-test-from-config';
const START_SECONDS = 30;
const SETTLE_SECONDS = 30;
// Models behind deployments of Azure, which are named `my-MODEL`.
const DEPLOYMENTS = ['gpt-4o-mini', 'text-embedding-3-large'].map((model) => `my-${model}: ${model}`).join(', ');
// Each provider's path on the mock, and what its config needs beyond address and key.
const PROVIDERS = {
  openai: ['', ''],
  anthropic: ['/anthropic', ''],
  gemini: ['/gemini', ''],
  mistral: ['/mistral', ''],
  bedrock: ['/bedrock', ', region: us-east-1'],
  azure: ['/azure', `, deployments: { ${DEPLOYMENTS} }`],
};
const ENVIRONMENT = {
  ...process.env,
  PROVIDER_API_KEY: CONFIG_PROVIDER_KEY,
  LOOPERS_ADMIN_TOKEN: 'admin-token-of-the-sdk-test',
};
const run = promisify(execFile);
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** A decimal string in USD as nano-dollars, exactly. */
export function nano(usd) {
  const match = /^(\d+)(?:\.(\d{1,9}))?$/.exec(usd);
  if (!match) throw new Error(`${usd} is not a whole number of nano-dollars`);
  return BigInt(match[1]) * 1_000_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

/** Polls `probe` until it returns something true, and returns that. */
async function eventually(what, probe, seconds) {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(20);
  }
}

function configText(providers, mock, { listen, admin, folder }) {
  const rows = providers.map((name) => {
    const [path, more] = PROVIDERS[name];
    return `  ${name}: { base_url: "${mock}${path}", key: env:PROVIDER_API_KEY${more} }\n`;
  });
  return (
    `listen: 127.0.0.1:${listen}\nadmin: { listen: 127.0.0.1:${admin}, token: env:LOOPERS_ADMIN_TOKEN }\n` +
    `ledger: file:${folder}/loopers.db\nprices: [${ROOT}/conf/prices.yaml]\nproviders:\n${rows.join('')}`
  );
}

/** Whether this version of the gateway has that provider; `loopers check` says so. */
export async function isKnown(binary, provider) {
  const folder = mkdtempSync(join(tmpdir(), 'loopers-sdk-'));
  try {
    const config = join(folder, 'loopers.yaml');
    writeFileSync(config, configText([provider], 'http://127.0.0.1:9', { listen: 1, admin: 2, folder }));
    await run(binary, ['check', '--config', config], { env: ENVIRONMENT, cwd: folder });
    return true;
  } catch (error) {
    const told = `${error.stdout}${error.stderr}`;
    if (told.includes(`providers.${provider}: is not a provider of this version`)) return false;
    throw new Error(`loopers check with ${provider}: ${told || error}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Counts HTTP/1.1 requests by its own reading of Content-Length. */
class Http1Counter {
  pending = Buffer.alloc(0);
  left = 0;

  constructor(found) {
    this.found = found;
  }

  see(data) {
    this.pending = Buffer.concat([this.pending, data]);
    while (this.pending.length) {
      if (this.left) {
        const taken = Math.min(this.left, this.pending.length);
        this.pending = this.pending.subarray(taken);
        this.left -= taken;
        continue;
      }
      const end = this.pending.indexOf('\r\n\r\n');
      if (end < 0) return;
      const head = this.pending.subarray(0, end + 2).toString('latin1');
      if (!/^[A-Z]+ \S+ HTTP\/1\.1\r\n/.test(head)) throw new Error(`not a request: ${head.slice(0, 80)}`);
      if (/\r\ntransfer-encoding:/i.test(head)) throw new Error('the relay counts only bodies with a Content-Length');
      this.found(head.split('\r\n', 1)[0]);
      this.left = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
      this.pending = this.pending.subarray(end + 4);
    }
  }
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const FRAME_HEAD = 9;
const HEADERS_FRAME = 1;

/** Counts HTTP/2 requests: each HEADERS frame of a client opens a stream, for these clients send no trailers. */
class Http2Counter {
  pending = Buffer.alloc(0);
  skip = PREFACE.length;

  constructor(found) {
    this.found = found;
  }

  see(data) {
    this.pending = Buffer.concat([this.pending, data]);
    for (;;) {
      const taken = Math.min(this.skip, this.pending.length);
      this.pending = this.pending.subarray(taken);
      this.skip -= taken;
      if (this.skip || this.pending.length < FRAME_HEAD) return;
      if (this.pending[3] === HEADERS_FRAME) this.found('an HTTP/2 request');
      this.skip = FRAME_HEAD + this.pending.readUIntBE(0, 3);
    }
  }
}

/** A TCP relay that passes bytes on unchanged, and keeps the requests that went by and what the answers said is held. */
class Relay {
  requests = [];
  held = [];
  /** A connection spoke HTTP/2, whose answer headers are compressed: what is held cannot be read. */
  sawHttp2 = false;
  problems = [];

  async open(target) {
    this.server = net.createServer((client) => this.#relay(client, target));
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    this.port = this.server.address().port;
  }

  close() {
    this.server?.close();
  }

  #relay(client, target) {
    const gateway = net.connect({ port: target, host: '127.0.0.1', noDelay: true });
    client.setNoDelay(true);
    let counter;
    client.on('data', (data) => {
      if (!counter) {
        const http2 = PREFACE.subarray(0, 3).equals(data.subarray(0, 3));
        this.sawHttp2 ||= http2;
        counter = new (http2 ? Http2Counter : Http1Counter)((request) => this.requests.push(request));
      }
      try {
        counter.see(data);
      } catch (error) {
        this.problems.push(error);
      }
      gateway.write(data);
    });
    let tail = '';
    gateway.on('data', (data) => {
      tail += data.toString('latin1');
      let last = 0;
      for (const match of tail.matchAll(/\r\nx-loopers-held-usd: *(\S+)(?=\r\n)/gi)) {
        this.held.push(nano(match[1]));
        last = match.index + match[0].length;
      }
      // A header may come in two pieces; one that was counted must not be seen again.
      tail = tail.slice(Math.max(last, tail.length - 100));
      client.write(data);
    });
    // When one side is gone so must the other be, at once, or a hang-up would not be seen.
    client.on('close', () => gateway.destroy());
    gateway.on('close', () => client.destroy());
    client.on('end', () => gateway.end());
    gateway.on('end', () => client.end());
    for (const side of [client, gateway]) side.on('error', () => {});
  }
}

async function freePort() {
  const probe = net.createServer();
  await new Promise((done) => probe.listen(0, '127.0.0.1', done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}

/** Mock, gateway and relay, started together. */
export class World {
  relay = new Relay();
  #children = [];

  constructor(binary, providers) {
    this.binary = binary;
    this.providers = providers;
    this.folder = mkdtempSync(join(tmpdir(), 'loopers-sdk-'));
    this.config = join(this.folder, 'loopers.yaml');
  }

  async start() {
    const [mock, listen, admin] = [await freePort(), await freePort(), await freePort()];
    this.mock = `http://127.0.0.1:${mock}`;
    this.admin = `http://127.0.0.1:${admin}`;
    writeFileSync(this.config, configText(this.providers, this.mock, { listen, admin, folder: this.folder }));
    this.#spawn('mock', ['mock', '--listen', `127.0.0.1:${mock}`]);
    await eventually('the mock answers', () => this.#answers(`${this.mock}/invoice`), START_SECONDS);
    this.#spawn('serve', ['serve', '--config', this.config]);
    await eventually('the gateway is ready', () => this.#answers(`http://127.0.0.1:${listen}/readyz`), START_SECONDS);
    await this.relay.open(listen);
  }

  async stop() {
    this.relay.close();
    for (const { name, child } of this.#children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((done) => child.once('exit', done));
      child.kill(name === 'serve' ? 'SIGINT' : 'SIGTERM');
      await Promise.race([ended, sleep(10_000)]);
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await ended;
      }
    }
    const told = this.#secretsWritten();
    rmSync(this.folder, { recursive: true });
    if (told) throw new Error(told);
  }

  /** Where something that the gateway wrote (log, journal, ledger) holds a proxy key or a secret of its environment. */
  #secretsWritten() {
    for (const entry of readdirSync(this.folder, { recursive: true, withFileTypes: true })) {
      // The mock logs whole requests on purpose.
      if (!entry.isFile() || entry.name.startsWith('mock')) continue;
      const text = readFileSync(join(entry.parentPath ?? entry.path, entry.name), 'latin1');
      const secret = text.match(/lp-[0-9A-Za-z]{43}/)?.[0]
        ?? [ENVIRONMENT.PROVIDER_API_KEY, ENVIRONMENT.LOOPERS_ADMIN_TOKEN].find((known) => known && text.includes(known));
      if (secret) return `${entry.name} holds a secret: ${secret}`;
    }
    return undefined;
  }

  #spawn(name, args) {
    const log = openSync(join(this.folder, `${name}.log`), 'w');
    const child = spawn(this.binary, args, { cwd: this.folder, env: ENVIRONMENT, stdio: ['ignore', log, log] });
    closeSync(log);
    this.#children.push({ name, child });
  }

  async #answers(url) {
    const gone = this.#children.find(({ child }) => child.exitCode !== null);
    if (gone) throw new Error(`\`loopers ${gone.name}\` ended with ${gone.child.exitCode}:\n${this.log(gone.name)}`);
    try {
      return (await fetch(url, { signal: AbortSignal.timeout(2000) })).status === 200;
    } catch {
      return false;
    }
  }

  log(name) {
    return readFileSync(join(this.folder, `${name}.log`), 'utf8');
  }

  /** A command of `loopers` on this ledger; its JSON. */
  async run(...args) {
    const options = { cwd: this.folder, env: ENVIRONMENT, timeout: 60_000 };
    return JSON.parse((await run(this.binary, [...args, '--config', this.config], options)).stdout);
  }

  /** A new proxy key: `{id, key, …}`. */
  key(name, flags) {
    return this.run('keys', 'create', '--name', name, ...flags, '--json');
  }

  /** Spent and held of the key this month, in nano-dollars. */
  async status(key) {
    const report = await this.run('budget', 'status', key.id, '--json');
    const { windows } = report.levels.find((level) => level.level === 'key');
    const { spent_usd: spent, held_usd: held } = windows.find((found) => found.window === 'monthly');
    return { spent: nano(spent), held: nano(held) };
  }

  async #mock(path, method = 'GET') {
    const answer = await fetch(this.mock + path, { method });
    const text = await answer.text();
    return text ? JSON.parse(text) : null;
  }

  invoice() {
    return this.#mock('/invoice');
  }

  resetMock() {
    return this.#mock('/reset', 'POST');
  }

  /** Requests that arrived at the mock: method, path, headers, body. */
  async seenByMock() {
    return (await this.#mock('/log')).requests;
  }

  /** Waits until no call runs and nothing is held; returns the key's status. */
  async atRest(key) {
    await eventually('the mock is idle', async () => (await this.invoice()).in_flight === 0, SETTLE_SECONDS);
    const settled = async () => {
      const status = await this.status(key);
      return status.held === 0n && status;
    };
    return eventually('all holds are settled', settled, SETTLE_SECONDS);
  }

  /** The values of one metric of the gateway, as they are printed. */
  async metric(name) {
    const text = await (await fetch(`${this.admin}/metrics`)).text();
    return [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].map((match) => match[1]);
  }
}
