#!/usr/bin/env python3
"""The official SDKs for Python against gateway and mock, unmodified but for base URL and key.

    LOOPERS_BIN=target/debug/loopers .venv/bin/python tests/sdk/python/test_sdks.py [PART-OF-SDK/SCENARIO]

The scenarios are in `suite.py`. `test_openai_sdk.py` has OpenAI's SDK, and what is the same for all of them.
"""

import os
import sys

import sdk_anthropic
import sdk_boto3
import sdk_google_genai
import sdk_mistralai
import suite
import world as w

# Written, and not passing yet: said in every run, never counted as passed.
PENDING = {
    "boto3": "boto3 sends a bearer key by HTTPS only, and this test's gateway has no certificate",
    "mistralai/tools": "the SDK does not take the pieces of a streamed tool call",
    "mistralai/refusal": "the scenario does not find the refusal's details in the SDK's exception",
}

ADAPTERS = [sdk_anthropic.Anthropic(), sdk_google_genai.GoogleGenai(), sdk_mistralai.MistralAi(), sdk_boto3.Boto3()]


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    binary = os.environ.get("LOOPERS_BIN", w.ROOT / "target/debug/loopers")
    known = {name for name in {sdk.provider for sdk in ADAPTERS} if w.is_known(binary, name)}
    count, failed = 0, []
    with w.World(binary, sorted(known)) as world:
        for sdk in ADAPTERS:
            if sdk.provider not in known:
                print(f"SKIPPED {sdk.name} {sdk.version()}: this version of the gateway has no provider {sdk.provider}")
                continue
            if sdk.name in PENDING:
                print(f"PENDING {sdk.name} {sdk.version()}: {PENDING[sdk.name]}")
                continue
            print(f"{sdk.name} {sdk.version()}", flush=True)
            ran, broken = suite.run(world, sdk, wanted, PENDING)
            count, failed = count + ran, failed + broken
        if failed:
            print(f"--- the gateway's log, last lines\n{world.log('serve')[-4000:]}", flush=True)
        overrun = world.metric("loopers_overrun_usd_total")
        if overrun:
            failed.append(f"overrun_usd_total is {overrun}")
    if failed or not count:
        sys.exit(f"failed: {', '.join(failed) or 'no scenario has that name'}")
    print(f"all {count} passed")


if __name__ == "__main__":
    main()
