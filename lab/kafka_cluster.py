"""Three real brokers on this machine, for what one cannot show: replicas, and going on while one of them is gone."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from airquality.ground.errors import Unavailable
from lab.broker import Broker
from lab.kafka_installation import KAFKA_VERSION, Installation
from lab.kafka_node import RealBroker
from lab.ports import LOOPBACK, free_port

NODES = 3
#: Of each JVM: three of them share a laptop.
HEAP_MB = 256
#: Every topic, the internal ones too, has three replicas, and an acknowledged record is on two of them.
_REPLICATED: dict[str, object] = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": 3,
    "share.coordinator.state.topic.min.isr": 2,
}


class KafkaCluster(Broker):
    """Three nodes, each broker and controller; a client gets all three addresses."""

    def __init__(self, installation: Installation, data_dir: Path | None = None) -> None:
        """Prepare nodes that are not running yet; their data are under ``data_dir``, None: in a temporary directory."""
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="air-quality-kafka-")) if data_dir is None else data_dir.absolute()
        self.nodes = [RealBroker(installation, self.data_dir / f"node-{number}") for number in range(1, NODES + 1)]
        controllers = [free_port() for _ in self.nodes]
        voters = ",".join(f"{number}@{LOOPBACK}:{port}" for number, port in enumerate(controllers, 1))
        for number, (node, port) in enumerate(zip(self.nodes, controllers, strict=True), 1):
            listeners = f"CLIENT://{node.bootstrap_servers},CONTROLLER://{LOOPBACK}:{port}"
            own = {"node.id": number, "controller.quorum.voters": voters, "listeners": listeners}
            node.properties = {**_REPLICATED, **own}
            node.cluster_id = self.nodes[0].cluster_id
            node.heap_mb = HEAP_MB
        servers = ",".join(node.bootstrap_servers for node in self.nodes)
        super().__init__("real", servers, f"Broker: {NODES} x Apache Kafka {KAFKA_VERSION} at {servers}, started here")

    def start(self) -> None:
        """Start all nodes at once, for none answers before two of them are up; raises what the first that fails raises."""
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(RealBroker.start, self.nodes))

    def wait(self) -> NoReturn:
        """Wait until no node runs any more, which is an error."""
        ends = []
        for node in self.nodes:
            try:
                node.wait()
            except Unavailable as error:
                ends.append(str(error))
        raise Unavailable("\n".join(ends))

    def close(self) -> None:
        """End the nodes and remove the data directory if it was a temporary one."""
        try:
            with ThreadPoolExecutor(NODES) as pool:
                list(pool.map(RealBroker.close, self.nodes))
        finally:
            if self._temporary:
                shutil.rmtree(self.data_dir, ignore_errors=True)
