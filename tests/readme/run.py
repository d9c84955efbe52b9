#!/usr/bin/env python3
"""Runs the code blocks of README.md, each as it stands, but for the substitutions that its function names.

    LOOPERS_BIN=target/debug/loopers .venv/bin/python tests/readme/run.py [PART-OF-A-NAME…]

Every block has one function here, and every function one block: a block that nothing runs fails the test. What is the same for all: the
provider is the mock, ports are free ones, and `sk-…` is a key without the dots. There is no Docker engine and no cluster: `docker` and
`kubectl` lines are checked against the files that they name, and the command that they run in a container is run here.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/deploy"))

import common as c  # noqa: E402

PROVIDER_KEY = "sk-test-readme"
SECONDS = 300
BLOCKS = {}


def block(heading, language):
    """Marks the function that runs the block of this language below this heading."""
    def mark(function):
        c.check((heading, language) not in BLOCKS, f"two functions for {heading}, {language}")
        BLOCKS[heading, language] = function
        return function
    return mark


def blocks(text):
    """`(heading, language) -> text` of every fenced block; a second one of a language below a heading is `sh 2`."""
    found, heading, language, lines = {}, "", None, []
    for line in text.splitlines():
        if language is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("```") and language is None:
            language, lines = line[3:].strip() or "text", []
        elif line.startswith("```"):
            same = sum(1 for known in found if known[0] == heading and known[1].split()[0] == language)
            found[heading, f"{language} {same + 1}" if same else language] = "\n".join(lines) + "\n"
            language = None
        elif language is not None:
            lines.append(line)
    c.check(language is None, "a code block has no end")
    return found


def missing(found):
    """What stands in README.md without a function, and the other way about."""
    yield from (f"README.md, {heading}, {language}: nothing runs this block" for heading, language in found if (heading, language) not in BLOCKS)
    yield from (f"README.md has no block {heading}, {language}" for heading, language in BLOCKS if (heading, language) not in found)


class World:
    """A folder, the mock, and a PATH on which `loopers` is the binary under test."""

    def __init__(self, processes, folder):
        self.processes, self.folder = processes, pathlib.Path(folder)
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "loopers").symlink_to(c.binary())
        self.programs = programs
        # No link: Python finds its virtual environment by the path that it was started with.
        self.program("python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        names = ("HOME", "LANG", "LD_LIBRARY_PATH")
        self.environment = {name: os.environ[name] for name in names if name in os.environ}
        self.environment["PATH"] = f"{programs}{os.pathsep}{c.VENV}{os.pathsep}{os.environ['PATH']}"
        self.port, self.admin = c.free_port(), c.free_port()

    def program(self, name, text):
        """A program that stands in for one that is not here."""
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def shell(self, script, cwd=None, **environment):
        """Runs lines of a shell, stopping at the first that fails. Processes that they leave in the background end with them."""
        script = f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{script}"
        done = subprocess.run(["bash", "-c", script], cwd=cwd or self.folder, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
        c.check(done.returncode == 0, f"exit {done.returncode}:\n{script}\n---\n{done.stdout[-4000:]}")
        return done.stdout

    def on_ports(self, text):
        """The ports of the page are taken by whoever has them; these are free."""
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}").replace("0.0.0.0:8080", f"127.0.0.1:{self.port}").replace(
            "127.0.0.1:9090", f"127.0.0.1:{self.admin}")

    def move_ports(self):
        """The same for the config that `loopers init` has written."""
        return f"sed -i -e s/0.0.0.0:8080/127.0.0.1:{self.port}/ -e s/127.0.0.1:9090/127.0.0.1:{self.admin}/ loopers.yaml"


def replace(text, old, new):
    """A substitution that must find what it replaces."""
    c.check(old in text, f"the block no longer has {old!r}: change this test with it")
    return text.replace(old, new)


@block("Loopers", "sh")
def make_targets(world, text):
    """`make demo` and `make test` are CI's own steps; here, that they exist and install what is missing first."""
    for line in text.splitlines():
        command = line.split("#")[0].split()
        c.check(command[0] == "make" and len(command) == 2, f"not a make target: {line}")
        said = c.output_of("make", "-n", command[1])
        c.check("scripts/setup.sh" in said, f"{line}: does not install what is missing")
        c.check(command[1] != "test" or "tests/readme/run.py" in said, "make test does not run the code blocks of this page")


@block("Quick start: the binary", "sh")
def binary(world, text):
    """Substituted: the release build (LOOPERS_BIN is on PATH), where OpenAI is (the mock), ports."""
    mock = world.processes.mock()
    build, rest = text.split("\n", 1)
    c.check(build == 'cargo build --release && export PATH="$PWD/target/release:$PATH"', f"another build: {build}")
    rest = replace(rest, "sk-…", PROVIDER_KEY)
    init = re.search(r"^loopers init --yes\b.*$", rest, re.M)[0]
    rest = world.on_ports(rest).replace(init, f"{init.split('#')[0].rstrip()} --base-url {mock}\n{world.move_ports()}")
    said = world.shell(rest)
    c.check(re.search(r"^HTTP/1\.1 200", said, re.M) and re.search(r"^x-loopers-cost-usd: 0\.0", said, re.M | re.I), f"no answer:\n{said}")
    billed, running = c.invoice(mock)
    c.check(billed > 0 and running == 0, f"the mock billed {billed}, {running} running")
    usd = f"{billed / 10**9:.9f}".rstrip("0")
    status = said[said.rindex('"usage"') if '"usage"' in said else 0:]
    c.check(usd in status, f"billed {usd}, but the budget's status is:\n{status}")
    return f"first call for {usd} USD"


@block("Quick start: the binary", "sh 2")
def without_an_account(world, text):
    """Substituted: ports. Then a gateway is started with what was written, and called."""
    port = c.free_port()
    text = replace(text, "http://127.0.0.1:9999", f"http://127.0.0.1:{port}")
    text = replace(text, "loopers mock &", f"loopers mock --listen 127.0.0.1:{port} &")
    text += (f"{world.move_ports()}\nloopers serve &\nexport LP_KEY=$(loopers keys create --name me --daily 1)\n"
             f"curl -sf --retry 6 --retry-connrefused http://127.0.0.1:{world.port}/openai/v1/chat/completions -H \"Authorization: Bearer $LP_KEY\" "
             "-H 'Content-Type: application/json' -d '{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}'\n")
    said = world.shell(text, OPENAI_API_KEY=PROVIDER_KEY)
    c.check('"usage"' in said, f"no answer:\n{said}")


def lines_of(text):
    """The commands of a block, continued lines joined."""
    return [line for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line.strip()]


def inner(line, marker):
    """What runs inside of the container."""
    words = shlex.split(line)
    return words[words.index(marker) + 1:]


def in_container(world, mock, ledger, command):
    """A gateway with the config of the containers, and the command in it. Substituted: config file, ports, state folder, provider."""
    config = c.load("conf/container.yaml")
    config["listen"], config["admin"]["listen"] = f"127.0.0.1:{world.port}", f"127.0.0.1:{world.admin}"
    config["state"] = str(world.folder / "state")
    config["providers"]["openai"]["base_url"] = mock
    path = world.folder / "container.yaml"
    path.write_text(yaml.safe_dump(config))
    environment = {"OPENAI_API_KEY": PROVIDER_KEY, "LOOPERS_ADMIN_TOKEN": c.ADMIN_TOKEN, "LOOPERS_LEDGER": ledger}
    world.processes.start("gateway", c.binary(), "serve", "--config", path, ready=lambda: c.answers(f"http://127.0.0.1:{world.port}/readyz"), **environment)
    c.check(command[0] == "loopers" and "/etc/loopers/loopers.yaml" in command, f"another command: {command}")
    command = [str(path) if word == "/etc/loopers/loopers.yaml" else word for word in command]
    key = world.shell(shlex.join(command), **environment).split()[-1]
    status, answer = c.send(world.port, key, "tokens=5")
    c.check(status == 200 and c.invoice(mock)[0] > 0, f"{status}: {answer}")


@block("Quick start: compose", "sh")
def compose(world, text):
    """The first command is run as it stands. The others: the gateway of compose.yaml on a Redis with its options, and the command in it."""
    head = re.sub(r"^# {2,}|^#$", "", "\n".join(line for line in (ROOT / "compose.yaml").read_text().splitlines() if line.startswith("#")), flags=re.M)
    for line in lines_of(text):
        c.check(re.sub(r"\s+", " ", line) in re.sub(r"\s+", " ", re.sub(r"\\\n\s*", " ", head)), f"the head of compose.yaml does not have: {line}")
    secrets, up, create = lines_of(text)
    c.check(up == "docker compose up -d --build", f"another command: {up}")
    world.shell(replace(secrets, "sk-…", PROVIDER_KEY))
    written = dict(line.split("=", 1) for line in (world.folder / ".env").read_text().splitlines())
    needed = set(re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text()))
    known = set(re.findall(r"\$\{(\w+):[?-]", (ROOT / "compose.yaml").read_text()))
    c.check(needed < set(written) <= known and all(written.values()), f"compose.yaml needs {needed}, .env has {set(written)}")
    service = c.load("compose.yaml")["services"][shlex.split(create)[3]]
    c.check(service["command"] == ["serve", "--config", "/etc/loopers/loopers.yaml"] and "build" in service, f"the gateway runs {service}")
    mount = next(one for one in service["volumes"] if isinstance(one, dict))
    c.check((mount["source"], mount["target"]) == ("./conf/container.yaml", "/etc/loopers/loopers.yaml"), f"another config: {mount}")
    c.check(set(service["environment"]) >= {"OPENAI_API_KEY", "LOOPERS_ADMIN_TOKEN", "LOOPERS_LEDGER"}, f"{service['environment']}")
    in_container(world, world.processes.mock(), world.processes.redis()[1], inner(create, "gateway"))


@block("Quick start: Kubernetes", "sh")
def kubernetes(world, text):
    """`kubectl kustomize` renders the overlay; names, image and ports are compared with it. Then the command in the container, as for compose."""
    build, apply, create, forward = lines_of(text)
    documents = c.load_all(c.output_of(c.program("kubectl"), "kustomize", apply.split()[-1]))
    named = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    deployment, service = named["Deployment", "loopers"], named["Service", "loopers"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    c.check(build == f"docker build -t {container['image']} . && kind load docker-image {container['image']}", f"the image is {container['image']}: {build}")
    c.check(apply == "kubectl apply -k k8s/overlays/dev", f"another overlay: {apply}")
    c.check(create.startswith(f"kubectl -n {deployment['metadata']['namespace']} exec deploy/loopers -- "), create)
    port = service["spec"]["ports"][0]["port"]
    c.check(forward == f"kubectl -n {service['metadata']['namespace']} port-forward svc/loopers 8080:{port}", f"the service has port {port}: {forward}")
    mounted = [one["mountPath"] for one in container["volumeMounts"]]
    c.check("/etc/loopers" in mounted and c.load("k8s/base/loopers.yaml") == c.load("conf/container.yaml"), f"another config: {mounted}")
    in_container(world, world.processes.mock(), world.processes.redis()[1], inner(create, "--"))


def gateway_for_all(world, mock):
    """A gateway with all six providers, as `loopers init` writes it. Substituted: where they are, ports, a deployment of Azure."""
    paths = {"openai": "", "azure": "/azure", "anthropic": "/anthropic", "gemini": "/gemini", "mistral": "/mistral", "bedrock": "/bedrock"}
    command = re.search(r"`(loopers init --yes --providers \S+)`", (ROOT / "README.md").read_text())[1]
    c.check(set(command.split()[-1].split(",")) == set(paths), f"not all six: {command}")
    bases = " ".join(f"--base-url {name}={mock}{path}" for name, path in paths.items())
    keys = {name: PROVIDER_KEY for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY",
                                            "AWS_BEARER_TOKEN_BEDROCK")}
    world.shell(f"{command} {bases}")
    path = world.folder / "loopers.yaml"
    config = yaml.safe_load(world.on_ports(path.read_text()))
    config["providers"]["azure"]["deployments"] = {"my-gpt-4o-mini": "gpt-4o-mini"}
    path.write_text(yaml.safe_dump(config))
    world.processes.start("gateway", c.binary(), "serve", "--config", path, ready=lambda: c.answers(f"http://127.0.0.1:{world.port}/readyz"), **keys)
    return world.shell("loopers keys create --name me --daily 10").split()[-1]


PYTHON_CALLS = '''
hello = [{"role": "user", "content": "Hello"}]
azure.chat.completions.create(model="my-gpt-4o-mini", messages=hello, max_tokens=50)
claude.messages.create(model="claude-sonnet-4-6", max_tokens=50, messages=hello)
gemini.models.generate_content(model="gemini-3.8-flash", contents="Hello")
mistral.chat.complete(model="codestral-latest", messages=hello, max_tokens=50)
bedrock.converse(modelId="amazon.nova-lite-v1:0", messages=[{"role": "user", "content": [{"text": "Hello"}]}], inferenceConfig={"maxTokens": 50})
'''
JS_CALLS = '''
const { ConverseCommand } = await import('@aws-sdk/client-bedrock-runtime');
const { generateText } = await import('ai');
const messages = [{ role: 'user', content: 'Hello' }];
await azure.chat.completions.create({ model: 'my-gpt-4o-mini', messages, max_tokens: 50 });
await claude.messages.create({ model: 'claude-sonnet-4-6', max_tokens: 50, messages });
await gemini.models.generateContent({ model: 'gemini-3.8-flash', contents: 'Hello' });
await mistral.chat.complete({ model: 'codestral-latest', messages, maxTokens: 50 });
const content = [{ text: 'Hello' }];
const inferenceConfig = { maxTokens: 50 };
await bedrock.send(new ConverseCommand({ modelId: 'amazon.nova-lite-v1:0', messages: [{ role: 'user', content }], inferenceConfig }));
await generateText({ model: ai('gpt-4o-mini'), prompt: 'Hello', maxOutputTokens: 50 });
'''


def billed_for(mock, calls):
    """Every client made its call, to the provider that it is for, and to nobody else."""
    with urllib.request.urlopen(f"{mock}/log", timeout=10) as answer:
        paths = [request["path"] for request in json.load(answer)["requests"]]
    found = {name: sum(1 for path in paths if path.startswith(f"/{name}/")) for name in ("azure", "anthropic", "gemini", "mistral", "bedrock")}
    found["openai"] = len(paths) - sum(found.values())
    c.check(found == calls, f"the mock saw {found}, not {calls}: {paths}")
    c.check(c.invoice(mock)[0] > 0, "nothing was billed")


@block("SDKs", "python")
def python(world, text):
    """Substituted: the port. Added: one call by each of the other clients, and credentials of AWS that mean nothing."""
    mock = world.processes.mock()
    key = gateway_for_all(world, mock)
    (world.folder / "page.py").write_text(world.on_ports(text) + PYTHON_CALLS)
    world.shell("python page.py", LP_KEY=key, AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY="not-a-secret-of-aws")
    billed_for(mock, {"openai": 1, "azure": 1, "anthropic": 1, "gemini": 1, "mistral": 1, "bedrock": 1})


@block("SDKs", "js")
def javascript(world, text):
    """Substituted: the port. Added: one call by each of the other clients."""
    mock = world.processes.mock()
    key = gateway_for_all(world, mock)
    (world.folder / "node_modules").symlink_to((ROOT / "tests/sdk/js/node_modules").resolve())
    (world.folder / "page.mjs").write_text(world.on_ports(text) + JS_CALLS)
    world.shell("node --preserve-symlinks page.mjs", LP_KEY=key)
    billed_for(mock, {"openai": 2, "azure": 1, "anthropic": 1, "gemini": 1, "mistral": 1, "bedrock": 1})


# Reads only the environment, as applications do.
MY_APP = '''
import anthropic, openai
openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
anthropic.Anthropic().messages.create(model="claude-sonnet-4-6", max_tokens=50, messages=[{"role": "user", "content": "Hello"}])
'''
# What Claude Code does with its variables.
CLAUDE = '''#!/bin/sh
exec curl -sf "$ANTHROPIC_BASE_URL/v1/messages" -H "Authorization: Bearer $ANTHROPIC_AUTH_TOKEN" -H 'anthropic-version: 2023-06-01' \\
    -H 'Content-Type: application/json' -d '{"model":"claude-sonnet-4-6","max_tokens":50,"messages":[{"role":"user","content":"Hello"}]}'
'''
# What codex does with the provider that its arguments define.
CODEX = '''#!/usr/bin/env python
import os, re, sys, openai
said = " ".join(sys.argv[1:])
assert 'model_provider="loopers"' in said, said
base = re.search(r'base_url="([^"]+)"', said)[1]
key = os.environ[re.search(r'env_key="([^"]+)"', said)[1]]
openai.OpenAI(base_url=base, api_key=key).responses.create(model="gpt-4o-mini", input="Hello", max_output_tokens=50)
'''


@block("SDKs", "sh")
def exec_(world, text):
    """Programs that are not here are stood in for by ones that read the same variables and arguments."""
    mock = world.processes.mock()
    key = gateway_for_all(world, mock)
    (world.folder / "my_app.py").write_text(MY_APP)
    world.program("claude", CLAUDE)
    world.program("codex", CODEX)
    world.shell(text, LP_KEY=key, OPENAI_API_KEY="sk-must-not-be-used", ANTHROPIC_API_KEY="sk-must-not-be-used")
    billed_for(mock, {"openai": 2, "azure": 0, "anthropic": 2, "gemini": 0, "mistral": 0, "bedrock": 0})


def self_test(text):
    """A block more, or one less, is noticed."""
    more = blocks(text + "\n## Nowhere\n\n```sh\ntrue\n```\n")
    c.check(list(missing(more)) == ["README.md, Nowhere, sh: nothing runs this block"], "a block that nothing runs is not noticed")
    c.check(list(missing(dict(list(blocks(text).items())[1:]))), "a block that is gone is not noticed")


def main():
    text = (ROOT / "README.md").read_text()
    found, failed, passed = blocks(text), list(missing(blocks(text))), 0
    self_test(text) if not failed else None
    for (heading, language), function in BLOCKS.items():
        name = f"{heading}, {language}"
        if (heading, language) not in found or (sys.argv[1:] and not any(part in name for part in sys.argv[1:])):
            continue
        started = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="loopers-readme-") as folder, c.Processes(folder) as processes:
                # The user's own, in which the README has him put his key.
                processes.may_hold = (".env",)
                said = function(World(processes, folder), found[heading, language])
        except Exception as problem:
            if not isinstance(problem, AssertionError):
                traceback.print_exc()
            failed.append(name)
            print(f"FAILED {name} ({time.monotonic() - started:.1f} s): {problem}", flush=True)
        else:
            passed += 1
            print(f"ok     {name} ({time.monotonic() - started:.1f} s){f': {said}' if said else ''}", flush=True)
    if failed:
        sys.exit("failed: " + "; ".join(failed))
    c.check(passed, "no block has that name")
    print(f"all {passed} passed")


if __name__ == "__main__":
    main()
