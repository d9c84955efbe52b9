"""Files that are read, not run: Dockerfile, compose.yaml, manifests, rules and dashboard against schemas and each other."""

import json
import os
import pathlib
import re
import tempfile

import jsonschema
import kubernetes_validate
import yaml

import rules
import sizing
from common import ADMIN_TOKEN, PROVIDER_KEY, ROOT, binary, check, load, load_all, output_of, program

# The oldest Kubernetes that the manifests are for; the newest is whatever the validator has.
OLDEST = "1.30"
# Kinds of the Prometheus Operator, which the validator does not know: which fields each part may have, and must have.
OPERATOR_KINDS = {
    "ServiceMonitor": {
        "spec": ({"selector", "endpoints", "namespaceSelector", "jobLabel"}, {"selector", "endpoints"}),
        "spec.endpoints[]": ({"port", "path", "interval", "scrapeTimeout", "relabelings"}, {"port"}),
    },
    "PrometheusRule": {
        "spec": ({"groups"}, {"groups"}),
        "spec.groups[]": ({"name", "interval", "rules"}, {"name", "rules"}),
        "spec.groups[].rules[]": ({"alert", "record", "expr", "for", "labels", "annotations"}, {"expr"}),
    },
}
OVERLAYS = ("dev", "prod")


def rendered(overlay):
    return load_all(output_of(program("kubectl"), "kustomize", f"k8s/overlays/{overlay}"))


def of_kind(documents, kind, name="loopers"):
    found = [one for one in documents if one["kind"] == kind and one["metadata"]["name"].startswith(name)]
    check(len(found) >= 1, f"there is no {kind} {name}")
    return found[0]


# === Container ===

def test_hadolint_finds_nothing():
    output_of(program("hadolint"), "--failure-threshold", "style", "Dockerfile")
    return output_of(program("hadolint"), "--version").strip() + ", 0 findings"


def test_compose_file_is_valid():
    schema = json.loads((ROOT / "tests/deploy/compose-spec.schema.json").read_text())
    compose = load("compose.yaml")
    validator = jsonschema.Draft7Validator(schema)
    problems = [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(compose)]
    check(not problems, "compose.yaml: " + "; ".join(problems))
    wrong = dict(compose, services=dict(compose["services"], redis=dict(compose["services"]["redis"], imaeg="x")))
    check(list(validator.iter_errors(wrong)), "the schema does not notice a field that does not exist")
    return f"{len(compose['services'])} services"


def test_compose_keeps_its_promises():
    services = load("compose.yaml")["services"]
    redis = services["redis"]
    check("ports" not in redis, "Redis is published")
    text = " ".join(redis["command"])
    for words in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction", "requirepass $$REDIS_PASSWORD"):
        check(words in text, f"Redis runs without `{words}`")
    check(any(volume.endswith(":/data") for volume in redis["volumes"]), "Redis has no volume")
    room_for_redis("compose.yaml", text, redis["mem_limit"])
    for name, service in services.items():
        check(service["read_only"] and service["cap_drop"] == ["ALL"], f"{name}: its root file system can be written to")
        for port in service.get("ports", []):
            check(port.startswith("127.0.0.1:"), f"{name}: {port} is open to the network")
        for variable, value in service.get("environment", {}).items():
            secret = re.search("PASSWORD|TOKEN|KEY", variable)
            # A provider that nobody uses has no key.
            end = ":-}" if variable in provider_variables() else ":?"
            check(not secret or value.startswith("${") and end in value, f"{name}: {variable} has a value in the file, or may be empty")
        for volume in service.get("volumes", []):
            if isinstance(volume, dict) and volume["type"] == "bind":
                check((ROOT / volume["source"]).exists(), f"{name}: {volume['source']} does not exist")


def room_for_redis(file, command, limit):
    """Full must mean refused: beyond the container's limit the kernel kills Redis, and what was not yet on disk is forgotten."""
    units = {"m": 1, "mb": 1, "Mi": 1, "g": 1024, "gb": 1024, "Gi": 1024}
    mib = lambda text: int(re.match(r"\d+", text)[0]) * units[re.sub(r"^\d+", "", text)]
    most = re.search(r"--maxmemory (\S+)", command)
    check(most, f"{file}: Redis runs without --maxmemory")
    # Rewriting the AOF forks: pages that change meanwhile are there twice.
    check(mib(most[1]) <= 0.7 * mib(limit), f"{file}: --maxmemory {most[1]} leaves no room below the limit {limit}")


def test_redis_of_the_dev_overlay_refuses_before_it_is_killed():
    found = [one for one in rendered("dev") if one["kind"] in ("StatefulSet", "Deployment") and "redis" in one["metadata"]["name"]]
    check(len(found) == 1, f"Redis of dev: {len(found)}")
    (container,) = found[0]["spec"]["template"]["spec"]["containers"]
    room_for_redis("k8s/overlays/dev/redis.yaml", " ".join(container["command"]), container["resources"]["limits"]["memory"])


def images():
    """Every image that is named anywhere, with the file that names it."""
    stages = re.findall(r"^FROM\s+(\S+)(?:\s+AS\s+(\S+))?", (ROOT / "Dockerfile").read_text(), re.M)
    names = {name for _, name in stages}
    yield from (("Dockerfile", image) for image, _ in stages if image not in names)
    yield from (("compose.yaml", service["image"]) for service in load("compose.yaml")["services"].values())
    for overlay in OVERLAYS:
        for document in rendered(overlay):
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            yield from ((f"k8s/overlays/{overlay}", one["image"]) for one in pod.get("containers", []))


def test_images_are_pinned_and_agree():
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    redis = set()
    for file, image in images():
        name, _, tag = image.rpartition(":")
        check(name and re.search(r"\d+\.\d+", tag), f"{file}: {image} has no version")
        if name.split("/")[-1] == "loopers":
            check(tag == version, f"{file}: {image}, but Cargo.toml says {version}")
        if name.split("/")[-1] == "redis":
            redis.add(tag)
    check(len(redis) == 1, f"compose and Kubernetes run different Redis: {redis}")
    return ", ".join(sorted({image for _, image in images()}))


# === Config ===

def provider_variables():
    """The variables in which the config of containers looks for providers' keys, those in comments too."""
    providers = (ROOT / "conf/container.yaml").read_text().partition("providers:")[2].partition("\nlimits:")[0]
    return set(re.findall(r"key: env:(\w+)", providers))


def test_every_provider_of_the_container_gets_its_key():
    wanted = provider_variables()
    check(len(wanted) == 6, f"not six providers: {wanted}")
    compose = set(load("compose.yaml")["services"]["gateway"]["environment"])
    deployment = next(one for one in load_all((ROOT / "k8s/base/deployment.yaml").read_text()) if one["kind"] == "Deployment")
    pods = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    check(wanted <= compose, f"compose.yaml does not pass on {wanted - compose}")
    check(wanted <= set(pods), f"k8s/base/deployment.yaml does not pass on {wanted - set(pods)}")
    check(all(pods[name].get("optional") for name in wanted), "a pod does not start without the key of a provider that nobody uses")
    # With what stands in comments: the config that the comments promise is read without a finding but for keys that are not set.
    text = re.sub(r"^  # (azure|bedrock|  \S)", r"  \1", (ROOT / "conf/container.yaml").read_text(), flags=re.M)
    check(len(yaml.safe_load(text)["providers"]) == 6, f"the lines in comments are no providers:\n{text}")
    environment = dict(os.environ, LOOPERS_ADMIN_TOKEN=ADMIN_TOKEN, LOOPERS_LEDGER="redis://:p@redis:6379", **dict.fromkeys(wanted, PROVIDER_KEY))
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "loopers.yaml"
        config.write_text(text)
        said = output_of(binary(), "check", "--config", config, env=environment)
    check(said.startswith("ok\n"), f"loopers check: {said}")
    return ", ".join(sorted(wanted))


def test_configs_of_containers_are_the_same_and_load():
    check(load("conf/container.yaml") == load("k8s/base/loopers.yaml"), "k8s/base/loopers.yaml differs from conf/container.yaml")
    environment = dict(os.environ, LOOPERS_ADMIN_TOKEN=ADMIN_TOKEN, LOOPERS_LEDGER="redis://:p@redis:6379",
                       **dict.fromkeys(provider_variables(), PROVIDER_KEY))
    said = output_of(binary(), "check", "--config", "conf/container.yaml", env=environment)
    check(said.startswith("ok\n") and "redis://***@redis:6379" in said, f"loopers check: {said}")


# === Kubernetes ===

def test_manifests_follow_the_schemas_of_kubernetes():
    newest = kubernetes_validate.latest_version()
    for overlay in OVERLAYS:
        for document in rendered(overlay):
            if document["kind"] in OPERATOR_KINDS:
                operator_kind(document)
                continue
            for version in (OLDEST, newest):
                kubernetes_validate.validate(document, version, strict=True)
    wrong = of_kind(rendered("prod"), "Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["imaeg"] = "x"
    try:
        kubernetes_validate.validate(wrong, newest, strict=True)
    except kubernetes_validate.ValidationError:
        return f"{', '.join(OVERLAYS)} against {OLDEST} and {newest}, strict"
    raise AssertionError("the validator does not notice a field that does not exist")


def operator_kind(document):
    check(document["apiVersion"] == "monitoring.coreos.com/v1", f"{document['kind']}: {document['apiVersion']}")
    for path, (may, must) in OPERATOR_KINDS[document["kind"]].items():
        for part in parts(document, path):
            check(must <= set(part) <= may, f"{document['kind']}: {path}: fields {sorted(part)}, not {sorted(may)} with {sorted(must)}")


def parts(document, path):
    found = [document]
    for name in path.split("."):
        found = [one[name.removesuffix("[]")] for one in found]
        if name.endswith("[]"):
            found = [one for many in found for one in many]
    return found


def test_manifests_fit_together():
    for overlay in OVERLAYS:
        documents = rendered(overlay)
        pod = of_kind(documents, "Deployment")["spec"]["template"]
        labels, container = pod["metadata"]["labels"], pod["spec"]["containers"][0]
        check(all(one["metadata"].get("namespace") == "loopers" for one in documents if one["kind"] != "Namespace"),
              f"{overlay}: something is outside of the namespace")
        for kind, where in (("Service", ("spec", "selector")), ("PodDisruptionBudget", ("spec", "selector", "matchLabels")),
                            ("NetworkPolicy", ("spec", "podSelector", "matchLabels"))):
            selector = of_kind(documents, kind)
            for name in where:
                selector = selector[name]
            check(selector.items() <= labels.items(), f"{overlay}: {kind} selects {selector}, the pods are {labels}")
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            check(container[probe]["httpGet"]["port"] in ports, f"{overlay}: {probe} asks a port that is not there")
        mounted = of_kind(documents, "ConfigMap")["metadata"]["name"]
        check(any(volume.get("configMap", {}).get("name") == mounted for volume in pod["spec"]["volumes"]),
              f"{overlay}: the ConfigMap {mounted} is not mounted")
        template = set(load("k8s/base/secret.template.yaml")["stringData"])
        wanted = {one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"] if "valueFrom" in one}
        check(wanted == template, f"{overlay}: the pod needs the keys {wanted}, the template of the Secret has {template}")
        if overlay == "dev":
            wanted = {one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"]
                      if "valueFrom" in one and not one["valueFrom"]["secretKeyRef"].get("optional")}
            given = set(of_kind(documents, "Secret")["data"])
            check(wanted <= given, f"dev: the Secret lacks {wanted - given}")
    monitored = of_kind(rendered("prod"), "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    admin = of_kind(rendered("prod"), "Service", "loopers-admin")["metadata"]["labels"]
    check(monitored.items() <= admin.items(), f"the ServiceMonitor looks for {monitored}, the Service has {admin}")


def test_autoscaler_goes_by_cpu_and_streams():
    metrics = of_kind(rendered("prod"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    named = {one["resource"]["name"] if one["type"] == "Resource" else one["pods"]["metric"]["name"] for one in metrics}
    check(named == {"cpu", "loopers_streams_open"}, f"the autoscaler goes by {named}")


# === Rules and dashboard ===

def test_rules_of_compose_and_kubernetes_are_the_same():
    found = of_kind(rendered("prod"), "PrometheusRule")["spec"]
    check(found == rules.resource()["spec"], "they differ: run `python tests/deploy/rules.py --write`")
    return f"{sum(len(group['rules']) for group in found['groups'])} alerts"


def test_rules_are_sound_and_fire_when_they_should():
    output_of(program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", "conf/prometheus/rules.yml")
    output_of(program("promtool"), "check", "config", "conf/prometheus/prometheus.yml")
    output_of(program("promtool"), "test", "rules", "tests/deploy/rules.test.yml")
    tested = (ROOT / "tests/deploy/rules.test.yml").read_text()
    guide = (ROOT / "docs/OPERATIONS.md").read_text()
    for group in load("conf/prometheus/rules.yml")["groups"]:
        for rule in group["rules"]:
            check(rule["alert"] in tested, f"{rule['alert']} has no test in tests/deploy/rules.test.yml")
            check(f"`{rule['alert']}`" in guide, f"docs/OPERATIONS.md does not say what to do about {rule['alert']}")


def test_dashboard_is_well_formed():
    dashboard = json.loads((ROOT / "conf/grafana/dashboards/loopers.json").read_text())
    panels = dashboard["panels"]
    check(len({panel["id"] for panel in panels}) == len(panels), "two panels have one id")
    taken = {}
    for panel in panels:
        place = panel["gridPos"]
        check(place["x"] + place["w"] <= 24, f"{panel['title']}: too wide")
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
            check(cell not in taken, f"{panel['title']} lies over {taken.get(cell)}")
            taken[cell] = panel["title"]
        if panel["type"] != "row":
            check(panel["targets"] and panel["description"], f"{panel['title']}: no query or no description")
    source = load("conf/grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    check(source["url"] == "http://prometheus:9090" and "prometheus" in load("compose.yaml")["services"], "the data source leads nowhere")
    provider = load("conf/grafana/provisioning/dashboards/loopers.yaml")["providers"][0]["options"]["path"]
    mounts = load("compose.yaml")["services"]["grafana"]["volumes"]
    check(any(isinstance(one, dict) and one["target"] == provider for one in mounts), f"{provider} is not mounted")
    return f"{sum(panel['type'] != 'row' for panel in panels)} panels"


# === Sizing ===

def test_sizing_is_computed_from_the_measured_costs():
    check(sizing.on_page()[1] == sizing.section(), "docs/OPERATIONS.md differs: run `python tests/deploy/sizing.py --write`")
    gateway, redis, pairs = sizing.measured()
    return f"{gateway} us in the gateway, {redis} us in Redis, {pairs} pairs a second"
