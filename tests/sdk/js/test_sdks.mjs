// The official SDKs for JavaScript against gateway and mock, unmodified but for base URL and key.
//
//     LOOPERS_BIN=target/debug/loopers node tests/sdk/js/test_sdks.mjs [PART-OF-SDK/SCENARIO]

import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import ai from './sdks/ai.mjs';
import anthropic from './sdks/anthropic.mjs';
import bedrock from './sdks/bedrock.mjs';
import googleGenai from './sdks/google-genai.mjs';
import mistral from './sdks/mistral.mjs';
import openai from './sdks/openai.mjs';
import { runAll } from './suite.mjs';
import { isKnown, ROOT, World } from './world.mjs';

const ADAPTERS = [...openai, anthropic, googleGenai, ...ai, mistral, ...bedrock];
// No scenario has the name that was asked for; `run.py` knows it.
const NOTHING_RAN = 3;

const version = (name) =>
  JSON.parse(readFileSync(join(import.meta.dirname, 'node_modules', name, 'package.json'), 'utf8')).version;

async function main(wanted) {
  const binary = resolve(process.env.LOOPERS_BIN ?? join(ROOT, 'target/debug/loopers'));
  const known = [];
  for (const name of new Set(ADAPTERS.map((sdk) => sdk.provider))) if (await isKnown(binary, name)) known.push(name);
  const failed = [];
  let count = 0;
  const world = new World(binary, known);
  try {
    await world.start();
    for (const sdk of ADAPTERS) {
      const title = `${sdk.name} ${version(sdk.package)}`;
      if (!known.includes(sdk.provider)) {
        console.log(`SKIPPED ${title}: this version of the gateway has no provider ${sdk.provider}`);
        continue;
      }
      console.log(title);
      const result = await runAll(world, sdk, wanted);
      count += result.count;
      failed.push(...result.failed);
    }
    const overrun = (await world.metric('loopers_overrun_usd_total')).filter((value) => Number(value) !== 0);
    if (overrun.length) failed.push(`overrun_usd_total is ${overrun}`);
    if (failed.length) console.log(`--- the gateway's log, last lines\n${world.log('serve').slice(-4000)}`);
  } finally {
    await world.stop();
  }
  if (failed.length) console.log(`failed: ${failed.join(', ')}`);
  else console.log(count ? `all ${count} passed` : 'no scenario has that name');
  return failed.length ? 1 : count ? 0 : NOTHING_RAN;
}

process.exit(await main(process.argv[2] ?? ''));
