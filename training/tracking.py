"""The study in MLflow: one parent run, and under it a run for every row of the tables."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from airquality.ground.files import write_atomically
from airquality.ground.settings import Settings
from airquality.model import registry

EXPERIMENT = "air-quality-training"
_PARENT_TAG = "mlflow.parentRunId"
_NAME_TAG = "mlflow.runName"


class Tracker:
    """A parent run and its children; a child is found by its name, so a later step adds to what an earlier one logged."""

    def __init__(self, client: MlflowClient, experiment_id: str, parent_id: str, tags: Mapping[str, str]) -> None:
        self.parent_id = parent_id
        self._client = client
        self._experiment_id = experiment_id
        self._tags = tags
        self._children = {run.data.tags[_NAME_TAG]: run.info.run_id for run in self.children()}

    @contextmanager
    def run(self, name: str) -> Iterator[str]:
        """Yield the id of the child ``name``; what happens inside is its time, unless an earlier step made it."""
        known = self._children.get(name)
        run_id = known or self._create(name)
        yield run_id
        if known is None:
            self._client.set_terminated(run_id)

    def log(self, run_id: str, metrics: Mapping[str, float], parameters: Mapping[str, Any] | None = None) -> None:
        """Log metrics, and parameters (whatever is not a number or text as JSON)."""
        now = int(time.time() * 1000)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
            params=[Param(name, _text(value)) for name, value in (parameters or {}).items()],
        )

    def log_steps(self, run_id: str, name: str, values: list[float]) -> None:
        """Log a series: entry i is step i."""
        now = int(time.time() * 1000)
        self._client.log_batch(run_id, metrics=[Metric(name, value, now, step) for step, value in enumerate(values)])

    def children(self) -> list[Run]:
        """Return the child runs in the order they were started."""
        found = self._client.search_runs(
            [self._experiment_id],
            f"tags.`{_PARENT_TAG}` = '{self.parent_id}'",
            order_by=["attributes.start_time ASC"],
            max_results=1000,
        )
        return list(found)

    def finish(self) -> None:
        """End the parent run."""
        self._client.set_terminated(self.parent_id)

    def _create(self, name: str) -> str:
        tags = {**self._tags, _PARENT_TAG: self.parent_id}
        run_id = str(self._client.create_run(self._experiment_id, tags=tags, run_name=name).info.run_id)
        self._children[name] = run_id
        return run_id


@contextmanager
def tracking(settings: Settings, tags: Mapping[str, str], parent_id: str | None = None) -> Iterator[Tracker]:
    """Yield a tracker under a new parent run, or under ``parent_id`` where the store still has it."""
    with registry.registry(settings) as client:
        experiment_id = registry.experiment(client, settings, EXPERIMENT)
        known = parent_id and any(
            run.info.run_id == parent_id for run in client.search_runs([experiment_id], max_results=1000)
        )
        if not known:
            parent_id = client.create_run(experiment_id, tags=dict(tags), run_name="study").info.run_id
        tracker = Tracker(client, experiment_id, str(parent_id), tags)
        yield tracker
        tracker.finish()


def write_csv(runs: list[Run], path: Path) -> None:
    """Write ``MLFlowRuns.csv``: a line a run, its times (UTC), tags, parameters and metrics."""
    rows = [_row(run) for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    fixed = [name for name in names if "." not in name]
    header = (
        fixed
        + sorted(name for name in names if name.startswith("params."))
        + sorted(name for name in names if name.startswith("metrics."))
    )
    text = io.StringIO()
    lines = csv.DictWriter(text, header, restval="", lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def _row(run: Run) -> dict[str, Any]:
    tags = {name: run.data.tags.get(name, "") for name in ("data_source", "data_hash", "features_hash", "git_commit")}
    return {
        "run_id": run.info.run_id,
        "name": run.data.tags[_NAME_TAG],
        "status": run.info.status,
        "start_time": _moment(run.info.start_time),
        "end_time": _moment(run.info.end_time),
        **{name: value for name, value in tags.items() if value},
        **{f"params.{name}": value for name, value in run.data.params.items()},
        **{f"metrics.{name}": repr(value) for name, value in run.data.metrics.items()},
    }


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)
