"""The container files: what both compose versions load, what every service promises, what each image holds."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import kafka.codec
import pytest
import yaml

from airquality.ground.kafka_security import KafkaSecurity
from airquality.ground.settings import Settings
from lab.kafka_installation import KAFKA_VERSION

ROOT = Path(__file__).resolve().parent.parent
BASE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ZOOKEEPER = yaml.safe_load((ROOT / "docker-compose.zookeeper.yml").read_text())
THREE = yaml.safe_load((ROOT / "docker-compose.three-brokers.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = {
    **BASE["services"],
    "zookeeper": ZOOKEEPER["services"]["zookeeper"],
    "kafka-2": THREE["services"]["kafka-2"],
    "kafka-3": THREE["services"]["kafka-3"],
}
BROKERS = ("kafka", "kafka-2", "kafka-3")
ONE_SHOT = {"kafka-init", "model-init", "data-init", "alert-webhook-init", "producer"}
SCALED = {"api", "consumer"}
LONG_RUNNING = sorted(set(SERVICES) - ONE_SHOT)
OWN = sorted(name for name, service in SERVICES.items() if "build" in service and name != "mlflow")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = {
    match["name"]: match["body"]
    for match in re.finditer(r"^FROM (?P<image>\S+) AS (?P<name>\S+)\n(?P<body>.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
}
#: What each image starts.
DOORS = {
    "api": ["api_service"],
    "producer": ["producer", "airquality.stream.lag", "deploy.forward"],
    "consumer": ["consumer"],
    "data": ["deploy.make_data", "dataset.create_dataset", "generate_reference_dataset", "training.train"],
}
FILE_SETS = (
    ["docker-compose.yml"],
    ["docker-compose.yml", "docker-compose.zookeeper.yml"],
    ["docker-compose.yml", "docker-compose.three-brokers.yml"],
)


def ports(service: dict[str, Any]) -> list[str]:
    return list(service.get("ports", []))


# --- loading


@pytest.mark.slow
@pytest.mark.parametrize("files", FILE_SETS, ids=["kraft", "zookeeper", "three-brokers"])
@pytest.mark.parametrize("command", [["docker-compose"], ["docker", "compose"]], ids=["v1", "v2"])
def test_compose_loads_the_files_without_a_word(command: list[str], files: list[str]) -> None:
    if not shutil.which(command[0]) or subprocess.run([*command, "version"], capture_output=True).returncode:
        pytest.skip(f"{' '.join(command)} is not installed")
    chosen = [part for file in files for part in ("-f", file)]
    done = subprocess.run([*command, *chosen, "config", "-q"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_that_one_compose_version_refuses_or_warns_about() -> None:
    for file in (BASE, ZOOKEEPER, THREE):
        assert set(file) <= {"services", "volumes"} | {key for key in file if key.startswith("x-")}
        for service in file["services"].values():
            assert not {"develop", "container_name", "configs", "deploy"} & set(service)
            assert "start_interval" not in service.get("healthcheck", {})
            assert all(set(needed) == {"condition"} for needed in service.get("depends_on", {}).values())
    assert not re.search(r"\$\{[^}]*\$\{", (ROOT / "docker-compose.yml").read_text()), "nested defaults are silently wrong"


# --- services


def test_services_and_ports_are_the_ones_promised() -> None:
    published = {name: int(port.split(":")[1]) for name, service in SERVICES.items() for port in ports(service)}
    assert published == {
        "kafka": 9092,
        "kafka-2": 9094,
        "kafka-3": 9095,
        "kafka-ui": 8080,
        "mlflow": 5000,
        "api-port": 8000,
        "consumer-port": 8001,
        "prometheus": 9090,
        "grafana": 3000,
        "alertmanager": 9093,
        "zookeeper": 2181,
    }
    assert set(SERVICES) - set(published) - SCALED == ONE_SHOT | {"lag-exporter"}


@pytest.mark.parametrize("name", sorted(SCALED))
def test_what_is_scaled_publishes_no_port_and_is_found_by_its_name(name: str) -> None:
    assert not ports(SERVICES[name])
    front = SERVICES[f"{name}-port"]
    port = ports(front)[0].split(":")[-1]
    assert front["command"] == ["python", "forward.py", port, f"{name}:{port}"]
    assert front.get("profiles") == SERVICES[name].get("profiles")
    jobs = {job["job_name"]: job for job in yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]}
    assert jobs[name]["dns_sd_configs"][0] == {"names": [name], "type": "A", "port": int(port), "refresh_interval": "5s"}


def test_every_port_is_bound_to_this_machine_only() -> None:
    assert [port for service in SERVICES.values() for port in ports(service) if not port.startswith("127.0.0.1:")] == []


def test_long_running_services_are_checked_restarted_and_bounded() -> None:
    for name in LONG_RUNNING:
        service = SERVICES[name]
        assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])
        assert service["restart"] == "unless-stopped"
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["stop_grace_period"] == ("60s" if name == "consumer" else "30s"), "10 s are short for a busy machine"


def test_health_checks_start_no_interpreter_and_no_jvm() -> None:
    for name in LONG_RUNNING:
        command = " ".join(SERVICES[name]["healthcheck"]["test"])
        assert not re.search(r"python|java|kafka-|\.sh\b", command)
        assert command.startswith(("CMD bash -c", "CMD-SHELL wget"))


def test_jobs_end_and_stay_ended() -> None:
    for name in sorted(ONE_SHOT):
        assert SERVICES[name]["restart"] in ("no", "on-failure:5")
        assert SERVICES[name]["mem_limit"]


def test_no_service_can_gain_privileges_or_fill_the_disk_with_logs() -> None:
    for name in sorted(SERVICES):
        service = SERVICES[name]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["cap_drop"] == ["ALL"]
        assert service["logging"]["options"]["max-size"]
        assert service.get("cap_add", []) == (["CHOWN", "SETUID", "SETGID", "KILL"] if name == "consumer" else [])


def test_root_file_systems_are_read_only_where_the_software_allows() -> None:
    writable = {name for name, service in SERVICES.items() if not service.get("read_only")}
    assert writable == {*BROKERS, "kafka-ui", "zookeeper"}, (
        "Kafka's start script writes its configuration; Kafka UI is untried"
    )


def test_every_dependency_is_waited_for_until_it_is_of_use() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert how["condition"] == expected


@pytest.mark.parametrize("name", [name for name in OWN if not name.endswith("-init")])
def test_service_that_names_another_is_stopped_before_it(name: str) -> None:
    """Compose stops in the reverse order of direct dependencies; one that is only implied by a job's does not count."""
    service = SERVICES[name]
    values = [*service.get("environment", {}).values(), *service.get("command", [])]
    addresses = " ".join(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for value in values)
    named = {other for other in LONG_RUNNING if re.search(rf"(^|[/ ]){other}:\d+", addresses)}
    assert named
    assert named <= set(SERVICES[name]["depends_on"])


def test_streaming_containers_read_the_data_that_data_init_made() -> None:
    for name in ("consumer", "producer"):
        assert SERVICES[name]["depends_on"]["data-init"] == {"condition": "service_completed_successfully"}
        assert "stream-data:/app/dataset:ro" in SERVICES[name]["volumes"]
    assert {"./dataset:/host/dataset:ro", "stream-data:/data"} <= set(SERVICES["data-init"]["volumes"])
    assert SERVICES["data-init"]["profiles"] == SERVICES["consumer"]["profiles"]


def test_alerting_without_a_webhook_fails_in_a_job_that_up_waits_for() -> None:
    job = SERVICES["alert-webhook-init"]
    assert SERVICES["alertmanager"]["depends_on"]["alert-webhook-init"] == {"condition": "service_completed_successfully"}
    assert job["profiles"] == SERVICES["alertmanager"]["profiles"]
    command = [*job["entrypoint"], job["command"][0].replace("$$", "$")]
    for url, status in (("", 2), ("http://localhost/", 0)):
        assert subprocess.run(command, env={"ALERT_WEBHOOK_URL": url}, capture_output=True).returncode == status


def test_consumer_health_check_asks_for_its_health_not_for_its_life() -> None:
    check = SERVICES["consumer"]["healthcheck"]
    assert "GET /health" in check["test"][-1]
    assert check["retries"] * 5 + 5 <= 30, "an outage shows within half a minute"
    assert check["start_period"] == "300s", "the first success ends it"


def test_kafka_ui_can_change_nothing_and_answers_only_to_a_session() -> None:
    environment = SERVICES["kafka-ui"]["environment"]
    assert environment["KAFKA_CLUSTERS_0_READONLY"] == "true"
    assert environment["DYNAMIC_CONFIG_ENABLED"] == "false"
    assert environment["AUTH_TYPE"] == "${KAFKA_UI_AUTH:-LOGIN_FORM}"
    assert environment["SERVER_REACTIVE_SESSION_COOKIE_SAMESITE"] == "strict"


def test_images_are_pinned_by_tag() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += [image for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) if image not in STAGES]
    for image in images:
        assert "@" not in image, "stand-ins and mirrors cannot have a digest"
        assert re.search(r":v?\d+\.\d+[\w.-]*$", image), image


def test_the_containers_run_the_versions_the_tests_run() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    locked = re.search(r"^mlflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    assert locked
    assert f"ghcr.io/mlflow/mlflow:v{locked[1]} " in DOCKERFILE


def test_own_services_are_given_only_settings_that_exist() -> None:
    known = {field.upper() for field in Settings.model_fields} | {"LOGNAME", "NO_PROXY", "no_proxy"}
    known |= {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    assert {name for service in OWN for name in SERVICES[service].get("environment", {})} <= known


def test_no_container_reaches_kafka_by_the_hosts_address_nor_the_host_by_the_containers() -> None:
    clients = ("kafka-init", "lag-exporter", "consumer", "producer")
    assert {SERVICES[name]["environment"]["KAFKA_BOOTSTRAP_SERVERS"] for name in clients} == {
        "${CONTAINERS_KAFKA:-kafka:29092}"
    }
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == "HOST://localhost:9092,CONTAINERS://kafka:29092"
    assert Settings.model_fields["kafka_bootstrap_servers"].default == "localhost:9092"


def test_what_is_on_the_network_is_not_looked_for_behind_a_proxy() -> None:
    for name in sorted(set(OWN) - {"api-port", "consumer-port"}):
        environment = SERVICES[name]["environment"]
        values = [str(value) for key, value in environment.items() if key.lower() != "no_proxy"]
        addresses = " ".join(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for value in values)
        named = {other for other in SERVICES if re.search(rf"(^|[/ ]){other}:\d+", addresses)}
        assert environment["NO_PROXY"] == environment["no_proxy"]
        assert named <= set(environment["NO_PROXY"].split(","))


@pytest.mark.parametrize("status", [200, 503])
def test_health_check_of_http_prints_the_answer_and_judges_by_the_status(status: int) -> None:
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: 14\r\n\r\n" + '{"faults": []}'
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = SERVICES["consumer"]["healthcheck"]["test"][-1].replace("$$", "$")
        script = script.replace("/8001", f"/{server.getsockname()[1]}")
        with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True) as check:
            connection = server.accept()[0]
            with connection:
                asked = connection.recv(1000)
                while not asked.endswith(b"\r\n\r\n"):  # bash writes line by line
                    asked += connection.recv(1000)
                assert asked == b"GET /health HTTP/1.0\r\n\r\n"
                connection.sendall(answer.encode())
            said, _ = check.communicate(timeout=20)
    assert (check.returncode == 0, said) == (status == 200, '{"faults": []}\n')


def health_check(service: dict[str, Any], port: int) -> list[str]:
    """Return a broker's health check, asking another port."""
    script: str = service["healthcheck"]["test"][-1].replace("$$", "$")
    return ["bash", "-c", script.replace("/29092", f"/{port}")]


def asked_by_health_check(service: dict[str, Any], brokers: int, passes: bool) -> bytes:
    """Run a broker's health check against a socket that knows so many live brokers; return what it asked."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(health_check(service, server.getsockname()[1])) as check,
        server.accept()[0] as connection,
    ):
        asked = connection.recv(1000)
        while len(asked) < 18:
            asked += connection.recv(1000)
        connection.sendall(struct.pack(">iii", 20, 1, brokers) + bytes(12))
        assert (check.wait(20) == 0) == passes
    return asked


def test_health_check_of_kafka_accepts_one_live_broker_and_nothing_else() -> None:
    for brokers, passes in ((1, True), (0, False)):
        asked = asked_by_health_check(SERVICES["kafka"], brokers, passes)
    size, api, version, correlation, client, topics = struct.unpack(">ihhihi", asked)
    assert (size, api, version, correlation, client, topics) == (len(asked) - 4, 3, 1, 1, -1, 0)
    assert subprocess.run(health_check(SERVICES["kafka"], 1), capture_output=True).returncode != 0


def test_mlflow_answers_to_its_compose_name_and_to_the_browser() -> None:
    allowed = next(part for part in SERVICES["mlflow"]["command"] if part.startswith("--allowed-hosts="))
    assert {"mlflow:5000", "localhost:5000", "127.0.0.1:5000"} <= set(allowed.split("=")[1].split(","))
    assert "*" not in allowed


def test_prometheus_reaches_a_consumer_on_the_host() -> None:
    assert SERVICES["prometheus"]["extra_hosts"] == ["host.docker.internal:host-gateway"]


def test_data_live_in_volumes_and_nothing_else_is_written_on_the_host_but_reports() -> None:
    mounts = [str(mount) for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert [mount for mount in mounts if mount.startswith(".") and not mount.endswith(":ro")] == ["./reports:/app/reports"]
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith(".")} | {"kafka-zookeeper-data", "kafka-1-of-3"}
    assert named == set(BASE["volumes"]) | set(ZOOKEEPER["volumes"]) | set(THREE["volumes"])


def test_the_zookeeper_variant_leaves_nothing_of_kraft_behind() -> None:
    base, variant = BASE["services"]["kafka"], ZOOKEEPER["services"]["kafka"]
    merged = {**base["environment"], **variant["environment"]}
    kraft = {"KAFKA_NODE_ID", "KAFKA_PROCESS_ROLES", "KAFKA_CONTROLLER_QUORUM_VOTERS", "KAFKA_CONTROLLER_LISTENER_NAMES"}
    assert {name for name, value in merged.items() if value is None} >= kraft
    assert not [name for name, value in merged.items() if "CONTROLLER" in str(value)]
    assert merged["KAFKA_ZOOKEEPER_CONNECT"] == "zookeeper:2181"
    data = [mount.split(":") for service in (base, variant) for mount in service["volumes"]]
    assert data[0][1] == data[1][1]
    assert data[0][0] != data[1][0], "a broker formatted for KRaft cannot be opened by one that uses ZooKeeper"


# --- three brokers


def three(name: str) -> dict[str, Any]:
    """Return a service as compose merges it of both files: maps key by key, volumes by where they are mounted."""
    base, over = BASE["services"].get(name, {}), THREE["services"].get(name, {})
    merged = {**base, **over}
    for key in ("environment", "depends_on"):
        merged[key] = {**base.get(key, {}), **over.get(key, {})}
    return merged


def test_three_brokers_differ_only_in_who_they_are() -> None:
    own = {"KAFKA_NODE_ID", "KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS"}
    found = {name: three(name) for name in BROKERS}
    common = [{k: v for k, v in each["environment"].items() if k not in own} for each in found.values()]
    assert common[0] == common[1] == common[2]
    for key in ("image", "restart", "init", "security_opt", "cap_drop", "logging", "mem_limit", "pids_limit"):
        assert found["kafka"][key] == found["kafka-2"][key] == found["kafka-3"][key], key
    assert found["kafka"]["stop_grace_period"] == found["kafka-2"]["stop_grace_period"]
    assert found["kafka"]["healthcheck"] == found["kafka-2"]["healthcheck"] == found["kafka-3"]["healthcheck"]
    data = [mount.split(":")[0] for each in found.values() for mount in each["volumes"]]
    assert len(set(data)) == 3
    assert not set(data) & set(BASE["volumes"]), "a single node's quorum must not find two voters that know nothing"


def test_three_brokers_are_each_found_where_they_say_and_vote() -> None:
    for number, name in enumerate(BROKERS, 1):
        service = three(name)
        environment, published = service["environment"], ports(service)[0].split(":")[-1]
        assert environment["KAFKA_NODE_ID"] == number
        assert f"HOST://localhost:{published}," in environment["KAFKA_ADVERTISED_LISTENERS"]
        assert environment["KAFKA_ADVERTISED_LISTENERS"].endswith(f"CONTAINERS://{name}:29092")
        assert environment["KAFKA_LISTENERS"] == f"HOST://:{published},CONTAINERS://:29092,CONTROLLER://:9093"
        assert f"{number}@{name}:9093" in environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
        assert service["hostname"] == name


def test_three_brokers_hold_everything_three_times_and_acknowledge_on_two() -> None:
    environment = three("kafka")["environment"]
    replicas = {key: value for key, value in environment.items() if key.endswith("REPLICATION_FACTOR")}
    in_sync = {key: value for key, value in environment.items() if key.endswith(("MIN_ISR", "MIN_INSYNC_REPLICAS"))}
    assert len(replicas) == 4
    assert set(replicas.values()) == {3}
    assert len(in_sync) == 3
    assert set(in_sync.values()) == {2}
    alone = BASE["services"]["kafka"]["environment"]
    assert set(alone) <= set(environment)
    differing = {key for key in alone if alone[key] != environment[key]} - set(replicas) - set(in_sync)
    assert differing == {"KAFKA_CONTROLLER_QUORUM_VOTERS", "KAFKA_HEAP_OPTS"}


def test_every_client_of_three_brokers_names_all_and_waits_for_all() -> None:
    clients = {name for name, service in BASE["services"].items() if "kafka" in service.get("depends_on", {})}
    assert clients == {"kafka-init", "kafka-ui", "lag-exporter", "consumer", "producer"}
    for name in clients:
        service = three(name)
        environment = service["environment"]
        servers = environment.get("KAFKA_BOOTSTRAP_SERVERS", environment.get("KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS"))
        assert servers == ",".join(f"{broker}:29092" for broker in BROKERS)
        assert all(service["depends_on"][broker] == {"condition": "service_healthy"} for broker in BROKERS)
        if "NO_PROXY" in environment:
            alone = BASE["services"][name]["environment"]["NO_PROXY"].split(",")
            assert set(environment["NO_PROXY"].split(",")) == {*alone, *BROKERS}
            assert environment["no_proxy"] == environment["NO_PROXY"]


@pytest.mark.parametrize(("brokers", "passes"), [(3, True), (2, True), (1, False), (0, False)])
def test_health_check_of_one_of_three_brokers_wants_two(brokers: int, passes: bool) -> None:
    asked_by_health_check(THREE["services"]["kafka"], brokers, passes)


def test_every_container_that_uses_kafka_gets_its_credentials() -> None:
    asked = {field.upper() for field in KafkaSecurity.model_fields} | {"TOPIC_PREFIX"}
    for name in ("kafka-init", "consumer", "producer"):
        environment = SERVICES[name]["environment"]
        assert {variable: environment.get(variable) for variable in asked} == {v: f"${{{v}:-}}" for v in asked}
        assert "./secrets:/app/secrets:ro" in SERVICES[name]["volumes"]


# --- .env


def test_env_example_lists_every_variable_with_its_default_and_nothing_else() -> None:
    names = {name for files in FILE_SETS for name in files}
    text = "".join((ROOT / name).read_text() for name in sorted(names))
    used = dict(re.findall(r"(?<!\$)\$\{(\w+):-([^}]*)\}", text))
    assert len(re.findall(r"(?<!\$)\$\{?\w", text)) == len(re.findall(r"(?<!\$)\$\{\w+:-", text)), "every one has a default"
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) == used


# --- images


def closure(door: str) -> tuple[set[str], set[str]]:
    """Return the project's own modules that ``door`` imports, itself included, and the other top-level names it imports."""
    own: set[str] = set()
    foreign: set[str] = set()
    left = [door]
    while left:
        module = left.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        if not path.exists():
            foreign.add(module.split(".")[0])
        elif module not in own:
            own.add(module)
            left += imports(ast.parse(path.read_text()))
    return own, foreign - set(sys.stdlib_module_names) - {"airquality"}


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [
                node.module,
                *(f"{node.module}.{a.name}" for a in node.names if node.module == "airquality"),
            ]
    return found


def requirements(name: str) -> dict[str, str]:
    """Return package -> bounds of a requirements file, those it includes among them; markers left out."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text().splitlines():
        line = line.split("#")[0].split(";")[0].strip()
        if line.startswith("-r"):
            found |= requirements(line[2:].strip())
        elif line:
            match = re.match(r"([\w-]+)(.*)", line)
            assert match
            found.setdefault(match[1], match[2])
    return found


def copied(role: str) -> dict[str, list[Path]]:
    """Return what each source that a stage copies names, relative to the project."""
    sources = [name for line in re.findall(r"^COPY (.*) \S+$", STAGES[role], re.M) for name in line.split()]
    return {source: [path.relative_to(ROOT) for path in ROOT.glob(source)] for source in sources}


@pytest.mark.parametrize("role", sorted(DOORS))
def test_an_image_holds_the_modules_its_program_imports_and_no_others(role: str) -> None:
    own = {module for door in DOORS[role] for module in closure(door)[0] if not module.startswith("airquality")}
    own = {module.removeprefix("deploy.") for module in own}
    modules = {
        source: {".".join(path.with_suffix("").parts).removeprefix("deploy.") for path in paths if path.suffix == ".py"}
        for source, paths in copied(role).items()
    }
    assert own <= set().union(*modules.values())
    named = {module for source, found in modules.items() if "*" not in source for module in found}
    assert named - {"run_as_owner"} <= own


@pytest.mark.parametrize("role", sorted(DOORS))
def test_what_an_image_copies_enters_its_build_context(role: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = copied(role)
    assert [source for source, found in sources.items() if not found] == []
    assert [source for source in sources if not any(Path(source).match(pattern) for pattern in allowed)] == []


PACKAGES = {"kafka": "kafka-python", "prometheus_client": "prometheus-client", "pydantic_settings": "pydantic-settings"}
PACKAGES |= {"xgboost": "xgboost-cpu", "mlflow": "mlflow-skinny", "sklearn": "scikit-learn", "snappy": "python-snappy"}
#: Comes with a package that is listed (pydantic-settings, fastapi, requests).
INDIRECT = {"pydantic", "starlette", "urllib3"}
#: Asked for only where it is: an image that lacks it says what works without.
OPTIONAL = {"sqlalchemy"}
#: The project's own, imported by name; that `train.py --quick` finds all it needs is tried in the container.
OWN_PACKAGES = {"training"}


@pytest.mark.parametrize("role", sorted(DOORS))
def test_an_image_installs_what_its_program_imports(role: str) -> None:
    foreign = {name for door in DOORS[role] for name in closure(door)[1]} - INDIRECT - OPTIONAL - OWN_PACKAGES
    assert {PACKAGES.get(name, name) for name in foreign} <= set(requirements(f"requirements-{role}.txt"))


@pytest.mark.parametrize("role", sorted(DOORS))
def test_images_install_within_the_bounds_of_requirements_txt(role: str) -> None:
    everything = requirements("requirements.txt")
    everything["mlflow-skinny"] = everything["mlflow"]
    for package, bounds in requirements(f"requirements-{role}.txt").items():
        assert everything[package] == bounds, package


def test_api_image_serves_with_the_loop_and_the_parser_of_the_benchmarks() -> None:
    measured = {name for name in ("uvloop", "httptools") if importlib.util.find_spec(name)}  # uvicorn takes what it finds
    assert measured <= set(requirements("requirements-api.txt"))


def test_the_api_image_neither_trains_nor_reports() -> None:
    assert not {"evidently", "scikit-learn", "lightgbm", "catboost", "mlflow", "matplotlib"} & set(
        requirements("requirements-api.txt")
    )


@pytest.mark.parametrize("role", [*sorted(DOORS), "mlflow"])
def test_an_image_runs_as_its_own_user(role: str) -> None:
    assert re.findall(r"^USER (\S+)$", STAGES[role], re.M)[-1:] == ["app"]


def test_no_stage_may_compile() -> None:
    assert "PIP_ONLY_BINARY=:all:" in STAGES["base"]
    assert not re.search(r"apt-get|gcc|build-essential", DOCKERFILE)


def test_no_dockerfile_feature_that_needs_more_than_the_classic_builder() -> None:
    assert not re.search(r"^#\s*syntax|--mount=|<<EOF", DOCKERFILE, re.M)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_requirements_codec_any_producer_may_choose_is_installed(codec: str) -> None:
    assert getattr(kafka.codec, f"has_{codec}")()
    assert {"zstandard", "lz4", "python-snappy"} <= set(requirements("requirements-consumer.txt"))


def test_build_context_holds_no_secrets() -> None:
    """The last pattern that matches decides, so whatever is kept out must stand after all that is let in."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    last_allowed = max(index for index, line in enumerate(lines) if line.startswith("!"))
    kept_out = set(lines[last_allowed + 1 :])
    assert {"**/.env*", "**/*.pem", "**/*.key", "**/*.p12", "**/*.jks", "**/.netrc", "**/id_*"} <= kept_out
    assert lines[0] == "*"
