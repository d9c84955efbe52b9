#!/usr/bin/env python3
"""The official SDKs for Python against gateway and mock, unmodified but for base URL and key.

    LOOPERS_BIN=target/debug/loopers .venv/bin/python tests/sdk/python/test_sdks.py [PART-OF-SDK/SCENARIO]

The scenarios are in `suite.py`. `test_openai_sdk.py` has more of OpenAI's chat completions, and what is the same for all SDKs.
"""

import os
import sys

import sdk_anthropic
import sdk_boto3
import sdk_google_genai
import sdk_mistralai
import sdk_openai
import suite
import world as w

ADAPTERS = [
    sdk_openai.Chat(),
    sdk_openai.Responses(),
    sdk_openai.Completions(),
    sdk_openai.Azure(),
    sdk_openai.AzureResponses(),
    sdk_openai.AzureV1(),
    sdk_anthropic.Anthropic(),
    sdk_google_genai.GoogleGenai(),
    sdk_mistralai.MistralAi(),
    sdk_mistralai.Responses(),
    sdk_boto3.Boto3(),
    sdk_boto3.Invoke(),
    sdk_boto3.Signing(),
]


def run_world(binary, adapters, known, wanted, https):
    """Runs those SDKs in a world of their own; how many scenarios ran, and the names of those that failed."""
    count, failed = 0, []
    providers = sorted({sdk.provider for sdk in adapters} & known)
    if not providers:
        return count, failed
    with w.World(binary, providers, https=https) as world:
        for sdk in adapters:
            print(f"{sdk.name} {sdk.version()}", flush=True)
            sdk.certificate = world.certificate and world.certificate.cert
            ran, broken = suite.run(world, sdk, wanted)
            count, failed = count + ran, failed + broken
        if failed:
            print(f"--- the gateway's log, last lines\n{world.log('serve')[-4000:]}", flush=True)
        overrun = world.metric("loopers_overrun_usd_total")
        if overrun:
            failed.append(f"overrun_usd_total is {overrun}")
    return count, failed


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    binary = os.environ.get("LOOPERS_BIN", w.ROOT / "target/debug/loopers")
    known = {name for name in {sdk.provider for sdk in ADAPTERS} if w.is_known(binary, name)}
    count, failed = 0, []
    for sdk in ADAPTERS:
        if sdk.provider not in known:
            print(f"SKIPPED {sdk.name} {sdk.version()}: this version of the gateway has no provider {sdk.provider}")
    for https in (False, True):
        adapters = [sdk for sdk in ADAPTERS if sdk.provider in known and sdk.needs_https == https]
        ran, broken = run_world(binary, adapters, known, wanted, https)
        count, failed = count + ran, failed + broken
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if not count:
        print("no scenario has that name")
        sys.exit(w.NOTHING_RAN)
    print(f"all {count} passed")


if __name__ == "__main__":
    main()
