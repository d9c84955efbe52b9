#!/usr/bin/env python3
"""Checks the dependencies: where they come from, their licences, crates present in two versions, and that each direct one
is used and explained in docs/DEPENDENCIES.md.

Reads `cargo metadata` (every platform) for sources and licences, `cargo tree --duplicates` (Linux) for versions.
Standard library only. Prints every problem, then exits 1.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DUPLICATES = ROOT / ".ci" / "duplicates.txt"
EXPLAINED = ROOT / "docs" / "DEPENDENCIES.md"
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
TARGET = "x86_64-unknown-linux-gnu"

# Each of these is needed by at least one crate that offers nothing else of the list; a licence that is no longer needed
# is an error too, so the list stays exactly what is there.
ALLOWED = {
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Zlib",
}
# Licence exceptions widen what their licence permits, so `X WITH exception` is at least X.
ALLOWED_EXCEPTIONS = {"LLVM-exception"}


class Expression:
    """An SPDX expression: OR binds loosest, then AND, then WITH; `/` is the old spelling of OR."""

    def __init__(self, text):
        self.tokens = re.findall(r"[()]|[A-Za-z0-9.+-]+", text.replace("/", " OR "))
        self.at = 0

    def satisfied(self, allowed):
        """True when a choice of licences from `allowed` fulfils the expression."""
        self.at = 0
        value = self._or(allowed)
        if self.at != len(self.tokens):
            raise ValueError(f"unexpected {self.tokens[self.at]!r}")
        return value

    def _peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _take(self):
        token = self._peek()
        if token is None:
            raise ValueError("ends too early")
        self.at += 1
        return token

    def _or(self, allowed):
        value = self._and(allowed)
        while self._peek() == "OR":
            self._take()
            right = self._and(allowed)
            value = value or right
        return value

    def _and(self, allowed):
        value = self._with(allowed)
        while self._peek() == "AND":
            self._take()
            right = self._with(allowed)
            value = value and right
        return value

    def _with(self, allowed):
        token = self._take()
        if token == "(":
            value = self._or(allowed)
            if self._take() != ")":
                raise ValueError("missing )")
            return value
        if token in (")", "OR", "AND", "WITH"):
            raise ValueError(f"unexpected {token!r}")
        value = token in allowed
        if self._peek() == "WITH":
            self._take()
            exception = self._take()
            value = value and exception in ALLOWED_EXCEPTIONS
        return value


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def check_sources_and_licences(packages):
    problems = []
    expressions = {}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["source"] is None:
            if pathlib.Path(package["manifest_path"]).parent != ROOT:
                problems.append(f"{name}: a path outside this repository")
            continue
        if package["source"] != CRATES_IO:
            problems.append(f"{name}: comes from {package['source']}, only crates.io is allowed")
        licence = package["license"]
        if licence is None:
            problems.append(f"{name}: names no licence (licence file: {package['license_file']})")
            continue
        try:
            satisfied = Expression(licence).satisfied(ALLOWED)
        except ValueError as error:
            problems.append(f"{name}: licence {licence!r} is not understood: {error}")
            continue
        if not satisfied:
            problems.append(f"{name}: licence {licence!r} is not allowed")
        expressions[licence] = Expression(licence)
    for licence in sorted(ALLOWED):
        if all(e.satisfied(ALLOWED - {licence}) for e in expressions.values() if e.satisfied(ALLOWED)):
            problems.append(f"licence {licence} is allowed but no crate needs it: take it off the list")
    return problems


def compatible(version):
    """The part of a version that decides compatibility: 1 of 1.4.2, 0.3 of 0.3.9, 0.0.5 of 0.0.5."""
    parts = version.split("+")[0].split("-")[0].split(".")
    for count, part in enumerate(parts, 1):
        if part != "0":
            return ".".join(parts[:count])
    return ".".join(parts)


def present_duplicates():
    lines = cargo(
        "tree", "--locked", "--duplicates", "--depth", "0", "--prefix", "none", "--format", "{p}",
        "--edges", "normal,build,dev", "--target", TARGET,
    ).splitlines()
    versions = {}
    for line in lines:
        match = re.match(r"(\S+) v(\S+)", line)
        if match:
            versions.setdefault(match[1], set()).add(match[2])
    # A crate that is built twice in one version (for the host and the target) is not a duplicate.
    return {name: sorted(found) for name, found in versions.items() if len(found) > 1}


def listed_duplicates(problems):
    listed = {}
    for number, line in enumerate(DUPLICATES.read_text().splitlines(), 1):
        entry, _, reason = line.partition("#")
        if not entry.strip():
            continue
        name, *versions = entry.split()
        if len(versions) < 2 or not reason.strip():
            problems.append(f"{DUPLICATES.name}:{number}: write `crate version version # reason`")
        if name in listed:
            problems.append(f"{DUPLICATES.name}:{number}: {name} is listed twice")
        listed[name] = versions
    return listed


def check_duplicates():
    problems = []
    listed = listed_duplicates(problems)
    present = present_duplicates()
    for name, versions in sorted(present.items()):
        short = sorted({compatible(version) for version in versions})
        if sorted(listed.get(name, [])) != short:
            users = "; ".join(
                f"{version} <- " + ", ".join(line for line in cargo(
                    "tree", "--locked", "--invert", f"{name}@{version}", "--depth", "1", "--prefix", "none",
                    "--format", "{p}", "--edges", "normal,build,dev", "--target", TARGET,
                ).splitlines()[1:] if line)
                for version in versions
            ).replace(str(ROOT), ".")
            problems.append(f"{name}: present as {' '.join(short)}, {DUPLICATES.name} lists {listed.get(name)}: {users}")
    for name in sorted(set(listed) - set(present)):
        problems.append(f"{DUPLICATES.name}: {name} is no longer duplicated: take its line out")
    return problems, present


def check_direct(packages):
    """Each dependency of Cargo.toml is named by our code, and by the page that says why it is here."""
    problems = []
    ours = next(package for package in packages if package["source"] is None)
    folders = ("src", "tests", "examples", "benches")
    code = "\n".join(path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob("*.rs")))
    explained = EXPLAINED.read_text()
    for dependency in ours["dependencies"]:
        name = dependency["rename"] or dependency["name"]
        if not re.search(rf"\b{name.replace('-', '_')}::", code):
            problems.append(f"{name}: in Cargo.toml, but no code names it")
        if f"`{name}`" not in explained:
            problems.append(f"{name}: {EXPLAINED.relative_to(ROOT)} does not say why it was chosen")
    return problems


def main():
    packages = json.loads(cargo("metadata", "--format-version", "1", "--locked"))["packages"]
    problems = check_sources_and_licences(packages) + check_direct(packages)
    duplicate_problems, present = check_duplicates()
    problems += duplicate_problems
    for problem in problems:
        print(f"dependencies: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"dependencies: {len(packages)} packages, all from crates.io, licences allowed, "
          f"{len(present)} crates in two or more versions, all of them listed")


if __name__ == "__main__":
    main()
