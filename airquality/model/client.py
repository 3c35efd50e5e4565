"""Ask the prediction service over HTTP: the consumer's side of ``api_service.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import requests
from numpy.typing import NDArray

from airquality.ground.errors import ContractError, Unavailable
from airquality.model import features
from airquality.records import Served


class PredictionClient:
    """Ask the prediction service, many rows a request."""

    def __init__(self, url: str, timeout_seconds: float, session: requests.Session) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._session = session

    def check(self) -> Served:
        """Return what the served model says of itself.

        Raises:
            Unavailable: the service does not answer, or has no model yet.
            ContractError: the model does not read the features this process computes.
        """
        served, version, source, data_hash, scores = self._answer(
            "GET", "/version", "features_hash", "model_version", "data_source", "data_hash", "scores"
        )
        declared = features.manifest()["hash"]
        if served != declared:
            raise ContractError(
                f"{self._url} serves version {version}, fitted on features {served[:12]}, "
                f"but this consumer computes {str(declared)[:12]}: run both from the same release"
            )
        valid = scores.get("validation", {}).get("rmse") if isinstance(scores, dict) else None
        return Served(str(version), str(source), str(data_hash), valid if isinstance(valid, float) else None)

    def predict(self, matrix: NDArray[np.float64]) -> list[tuple[float, str]]:
        """Return each row's prediction in mg/m3 and the version that made it.

        Raises:
            Unavailable: the service does not answer, or has no model yet.
            ContractError: it refuses the request, or answers anything but a number for each row.
        """
        body = orjson.dumps({"features": features.NAMES, "rows": matrix}, option=orjson.OPT_SERIALIZE_NUMPY)
        predictions, version = self._answer("POST", "/predict/batch", "predictions", "model_version", body=body)
        found = sum(isinstance(prediction, float) for prediction in predictions)
        if not found == len(predictions) == len(matrix):
            raise ContractError(f"{self._url} answered {found} predictions for {len(matrix)} rows")
        return [(prediction, version) for prediction in predictions]

    def _answer(self, method: str, path: str, *fields: str, body: bytes | None = None) -> list[Any]:
        """Return these fields of the answer."""
        try:
            response = self._session.request(method, self._url + path, data=body, timeout=self._timeout_seconds)
        except requests.RequestException as error:
            raise Unavailable(f"the prediction service at {self._url} does not answer: {type(error).__name__}") from error
        if response.status_code >= 500:
            raise Unavailable(f"the prediction service at {self._url} answers {response.status_code}: {response.text[:300]}")
        if response.status_code != 200:
            raise ContractError(f"{self._url}{path} refuses the request: {response.status_code} {response.text[:300]}")
        try:
            answer = orjson.loads(response.content)
            return [answer[field] for field in fields]
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise ContractError(f"{self._url}{path} is no prediction service: {response.text[:300]!r}") from error
