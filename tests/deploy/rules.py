#!/usr/bin/env python3
"""The PrometheusRule of Kubernetes, made from the rules that compose.yaml mounts.

    .venv/bin/python tests/deploy/rules.py            # says whether the two are the same
    .venv/bin/python tests/deploy/rules.py --write    # writes k8s/components/monitoring/rules.yaml
"""

import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "conf/prometheus/rules.yml"
TARGET = ROOT / "k8s/components/monitoring/rules.yaml"
HEAD = "# Made from conf/prometheus/rules.yml by `python tests/deploy/rules.py --write`.\n"


def resource():
    """The PrometheusRule as it must be."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "loopers", "labels": {"app.kubernetes.io/name": "loopers"}},
        "spec": yaml.safe_load(SOURCE.read_text()),
    }


def main():
    if "--write" in sys.argv:
        TARGET.write_text(HEAD + yaml.safe_dump(resource(), sort_keys=False, width=120, allow_unicode=True))
    elif yaml.safe_load(TARGET.read_text()) != resource():
        sys.exit(f"{TARGET.relative_to(ROOT)} is not what {SOURCE.relative_to(ROOT)} says: run this with --write")


if __name__ == "__main__":
    main()
