"""The Dockerfile without Docker: its instructions, in order, in an empty directory, up to a gateway that answers a call.

Base images cannot be pulled here. This machine stands in for them: its own Rust, cmake and certificates are used, package
installation is checked but not done, and cache mounts are this machine's cargo caches. Everything else is done as written:
what .dockerignore lets through, every COPY, the build commands, user, working folder, start command, health check.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import tempfile

import yaml

from common import ADMIN_TOKEN, PROVIDER_KEY, Processes, ROOT, answers, check, eventually, free_port, invoice, nano, program, send

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
KNOWN = {"FROM", "RUN", "COPY", "WORKDIR", "ARG", "LABEL", "VOLUME", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def instructions():
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            check(word in KNOWN, f"Dockerfile: this test does not know {word}")
            yield word, rest.strip()


def context():
    """What .dockerignore lets through: paths relative to the repository."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    check(lines[0] == "*" and all(line.startswith("!") for line in lines[1:]), ".dockerignore must be `*` and then exceptions")
    return [line.removeprefix("!") for line in lines[1:]]


class Stage:
    """One stage: a folder that stands for its root, and what its instructions said."""

    def __init__(self, root):
        self.root, self.workdir = root, "/"
        self.user, self.entrypoint, self.command, self.health, self.labels = None, [], [], None, {}

    def inside(self, path):
        full = pathlib.PurePosixPath(self.workdir) / path
        return self.root / str(full).lstrip("/")


class Image:
    """All stages of the Dockerfile, built below a folder. It must not lie in the target folder: cargo would note the copies of the sources as
    what was built there, and take that program for the repository's own however its sources have changed since."""

    def __init__(self, folder):
        check(not folder.resolve().is_relative_to(TARGET), f"{folder} is in {TARGET}")
        self.folder = folder
        self.stages, self.names = [], {}
        for word, rest in instructions():
            getattr(self, word.lower(), lambda rest: None)(rest)
        self.final = self.stages[-1]

    @property
    def stage(self):
        return self.stages[-1]

    def from_(self, rest):
        image, *name = re.split(r"\s+AS\s+", rest, flags=re.I)
        root = self.folder / ("root" if self.stages else "build")
        root.mkdir()
        self.stages.append(Stage(root))
        for one in name:
            self.names[one] = self.stage
        self.base = image

    def workdir(self, rest):
        self.stage.workdir = rest
        self.stage.inside(rest).mkdir(parents=True, exist_ok=True)

    def copy(self, rest):
        options = re.findall(r"--(\w+)=(\S+)", rest)
        *sources, target = re.sub(r"--\S+\s+", "", rest).split()
        of = self.names.get(dict(options).get("from"))
        for source in sources:
            path = self.source(of, source)
            into = self.stage.inside(target)
            if path.is_dir():
                shutil.copytree(path, into, dirs_exist_ok=True)
            else:
                into = into / path.name if target.endswith("/") else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, into)
            owner = dict(options).get("chown")
            if owner and os.geteuid() == 0:
                os.chown(into, *map(int, owner.split(":")))

    @staticmethod
    def source(stage, source):
        if stage:
            path = stage.inside(source)
            # Not made by the stage, so part of its base image, for which this machine stands.
            return path if path.exists() else pathlib.Path(source)
        path = source.removeprefix("./")
        check(any(path == one or path.startswith(f"{one}/") for one in context()), f".dockerignore keeps {path} out, but COPY wants it")
        return ROOT / path

    def run(self, rest):
        mounts = re.findall(r"--mount=type=cache,target=(\S+)", rest)
        command = re.sub(r"--mount=\S+\s+", "", rest)
        if command.startswith("apt-get"):
            return packages(command)
        for mount in mounts:
            if mount == f"{self.stage.workdir}/target":
                TARGET.mkdir(parents=True, exist_ok=True)
                self.stage.inside(mount).symlink_to(TARGET)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_TARGET")}
        done = subprocess.run(["sh", "-c", command], cwd=self.stage.inside("."), env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check(done.returncode == 0, f"RUN {command}: exit {done.returncode}\n{done.stdout[-4000:]}")

    def label(self, rest):
        self.stage.labels.update(pair.split("=", 1) for pair in shlex.split(rest))

    def user(self, rest):
        self.stage.user = rest

    def entrypoint(self, rest):
        self.stage.entrypoint = json.loads(rest)

    def cmd(self, rest):
        self.stage.command = json.loads(rest)

    def healthcheck(self, rest):
        self.stage.health = json.loads(rest[rest.index("CMD ") + 4:])


# `from` is a word of Python.
setattr(Image, "from", Image.from_)


def packages(command):
    """Packages that the build stage installs are tools that this machine must have as well."""
    found = re.findall(r"\s([a-z0-9.+-]+)=([\w.+:~-]+)", command)
    check(found and "--no-install-recommends" in command and "rm -rf /var/lib/apt/lists" in command, f"RUN {command}: unpinned, or leaves lists")
    for name, _ in found:
        program(name)


def start_as(image, processes, name, arguments, **more):
    """Runs a program of the image in its working folder, as its user where this test may become another."""
    final = image.final
    executable = final.root / "usr/local/bin" / arguments[0]
    become = {"user": int(final.user.split(":")[0]), "group": int(final.user.split(":")[1]), "extra_groups": []} if os.geteuid() == 0 else {}
    environment = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": PROVIDER_KEY, "LOOPERS_ADMIN_TOKEN": ADMIN_TOKEN}
    with (processes.folder / f"{name}.log").open("wb") as log:
        child = subprocess.Popen([executable, *arguments[1:]], cwd=final.inside("."), env=environment, stdin=subprocess.DEVNULL,
                                 stdout=more.get("stdout", log), stderr=log, **become)
    processes.children.append(child)
    return child


def tree(root):
    return {path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in root.rglob("*")}


def test_the_dockerfiles_commands_give_a_working_gateway():
    with tempfile.TemporaryDirectory() as name, Processes(name) as processes:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        # The program itself, in which anything may stand by chance.
        processes.may_hold = ("loopers",)
        image = Image(folder)
        # What is left of a build is its last stage; the sources hold the keys of their tests.
        shutil.rmtree(folder / "build")
        final = image.final
        check(len(image.stages) == 2 and final.user and final.user.split(":")[0] not in ("0", "root"), f"it runs as {final.user}")
        program_bytes = (final.root / "usr/local/bin/loopers").read_bytes()
        check(b"LOOPERS_FAILPOINTS" not in program_bytes, "the release has failpoints: it was built with debug assertions")
        for label in ("title", "description", "version", "revision", "licenses", "base.name"):
            check(final.labels.get(f"org.opencontainers.image.{label}"), f"the label {label} is missing")
        check(final.labels["org.opencontainers.image.base.name"].endswith(f"/{image.base}"), "the label base.name is not the base")
        mock = processes.mock()
        port, admin = free_port(), free_port()
        config = final.inside("loopers.yaml")
        config.write_text(yaml.safe_dump({
            "listen": f"127.0.0.1:{port}", "admin": {"listen": f"127.0.0.1:{admin}"},
            "providers": {"openai": {"base_url": mock, "key": "env:OPENAI_API_KEY"}},
        }))
        before = tree(final.root)
        gateway = start_as(image, processes, "gateway", final.entrypoint + final.command)
        health = [word.replace("/8080", f"/{port}") for word in final.health]

        def ready():
            check(gateway.poll() is None, f"it ended:\n{(folder / 'gateway.log').read_text()[-2000:]}")
            return answers(f"http://127.0.0.1:{port}/readyz")

        eventually("the gateway is ready", ready)
        check(subprocess.run(health, timeout=10).returncode == 0, "the health check does not find a running gateway healthy")
        made = start_as(image, processes, "keys", ["loopers", "keys", "create", "--name", "me", "--daily", "1", "--json"], stdout=subprocess.PIPE)
        key = json.loads(made.communicate(timeout=30)[0])["key"]
        status, text = send(port, key, "tokens=20", max_tokens=40)
        check(status == 200, f"a call was answered {status}: {text[:500]}")
        cost = re.search(r"x-loopers-cost-usd: (\S+)", text, re.I)
        check(cost and nano(cost[1]) == invoice(mock)[0] > 0, f"its cost is not the invoice {invoice(mock)[0]}: {text[:500]}")
        gateway.send_signal(signal.SIGTERM)
        check(gateway.wait(timeout=20) == 0, f"exit {gateway.returncode} on SIGTERM")
        check(subprocess.run(health, timeout=10, stderr=subprocess.DEVNULL).returncode != 0, "the health check finds a gateway that is gone healthy")
        changed = {path for path, at in tree(final.root).items() if before.get(path) != at and not (path + "/").startswith("data/")}
        check(not changed, f"it wrote outside of /data: {changed}")
        size = sum(path.stat().st_size for path in final.root.rglob("*") if path.is_file())
        return f"built, ran as {final.user}, answered and charged a call; {size >> 20} MiB on top of {image.base}"
