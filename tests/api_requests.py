"""What tests ask the prediction service, and how they read its metrics."""

from __future__ import annotations

import numpy as np
import orjson
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from airquality.model import features
from airquality.serving.served import ServedModel

WIDTH = len(features.NAMES)
#: The first line of a binary body.
NAMES_LINE = orjson.dumps({"features": features.NAMES}) + b"\n"
#: A row of features that has a prediction.
ROW = dict.fromkeys(features.NAMES, 0.1) | {features.BASE_FEATURE: 1.8}


def body_of(matrix: np.ndarray) -> bytes:
    return orjson.dumps({"features": features.NAMES, "rows": matrix}, option=orjson.OPT_SERIALIZE_NUMPY)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and label values."""
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def metrics_of(served: ServedModel) -> dict[tuple[str, ...], float]:
    return samples(generate_latest(served.registry).decode())
