"""Kafka in the compose files: its addresses, its health check, one broker, three, and the one with ZooKeeper."""

from __future__ import annotations

import socket
import struct
import subprocess
from typing import Any

import pytest

from airquality.ground.kafka_security import KafkaSecurity
from airquality.ground.settings import Settings
from lab.waiting import PATIENCE_SECONDS
from tests.compose_files import BASE, BROKERS, SERVICES, THREE, ZOOKEEPER, ports


def test_kafka_ui_can_change_nothing_and_answers_only_to_a_session() -> None:
    environment = SERVICES["kafka-ui"]["environment"]
    assert environment["KAFKA_CLUSTERS_0_READONLY"] == "true"
    assert environment["DYNAMIC_CONFIG_ENABLED"] == "false"
    assert environment["AUTH_TYPE"] == "${KAFKA_UI_AUTH:-LOGIN_FORM}"
    assert environment["SERVER_REACTIVE_SESSION_COOKIE_SAMESITE"] == "strict"


def test_no_container_reaches_kafka_by_the_hosts_address_nor_the_host_by_the_containers() -> None:
    clients = ("kafka-init", "lag-exporter", "consumer", "producer")
    assert {SERVICES[name]["environment"]["KAFKA_BOOTSTRAP_SERVERS"] for name in clients} == {
        "${CONTAINERS_KAFKA:-kafka:29092}"
    }
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == "HOST://localhost:9092,CONTAINERS://kafka:29092"
    assert Settings.model_fields["kafka_bootstrap_servers"].default == "localhost:9092"


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
        assert (check.wait(PATIENCE_SECONDS) == 0) == passes
    return asked


def test_health_check_of_kafka_accepts_one_live_broker_and_nothing_else() -> None:
    for brokers, passes in ((1, True), (0, False)):
        asked = asked_by_health_check(SERVICES["kafka"], brokers, passes)
    size, api, version, correlation, client, topics = struct.unpack(">ihhihi", asked)
    assert (size, api, version, correlation, client, topics) == (len(asked) - 4, 3, 1, 1, -1, 0)
    assert subprocess.run(health_check(SERVICES["kafka"], 1), capture_output=True).returncode != 0


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
