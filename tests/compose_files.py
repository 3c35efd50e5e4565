"""The compose files and the Dockerfile as tests read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

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
LONG_RUNNING = sorted(set(SERVICES) - ONE_SHOT)
OWN = sorted(name for name, service in SERVICES.items() if "build" in service and name != "mlflow")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = {
    match["name"]: match["body"]
    for match in re.finditer(r"^FROM (?P<image>\S+) AS (?P<name>\S+)\n(?P<body>.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
}
FILE_SETS = (
    ["docker-compose.yml"],
    ["docker-compose.yml", "docker-compose.zookeeper.yml"],
    ["docker-compose.yml", "docker-compose.three-brokers.yml"],
)


def ports(service: dict[str, Any]) -> list[str]:
    return list(service.get("ports", []))
