"""Ask the prediction service over HTTP: the consumer's side of ``api_service.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import requests
from numpy.typing import NDArray

from airquality import features
from airquality.errors import ContractError, Unavailable


class PredictionClient:
    """Ask the prediction service, many rows a request."""

    def __init__(self, url: str, timeout_seconds: float, session: requests.Session) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._session = session

    def check(self) -> None:
        """Raise ``ContractError`` unless the served model reads the features this process computes."""
        version = self._answer("GET", "/version")
        declared = features.manifest()["hash"]
        if version["features_hash"] != declared:
            raise ContractError(
                f"{self._url} serves version {version['model_version']}, fitted on features {version['features_hash'][:12]}, "
                f"but this consumer computes {str(declared)[:12]}: run both from the same release"
            )

    def predict(self, matrix: NDArray[np.float64]) -> list[tuple[float, str]]:
        """Return each row's prediction in mg/m3 and the version that made it.

        Raises:
            Unavailable: the service does not answer, or has no model yet.
            ContractError: it refuses the request, or answers another number of rows.
        """
        body = orjson.dumps({"features": features.NAMES, "rows": matrix}, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self._answer("POST", "/predict/batch", body)
        predictions, version = answer["predictions"], answer["model_version"]
        if len(predictions) != len(matrix):
            raise ContractError(f"{self._url} answered {len(predictions)} predictions for {len(matrix)} rows")
        return [(prediction, version) for prediction in predictions]

    def _answer(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            response = self._session.request(method, self._url + path, data=body, timeout=self._timeout_seconds)
        except requests.RequestException as error:
            raise Unavailable(f"the prediction service at {self._url} does not answer: {type(error).__name__}") from error
        if response.status_code >= 500:
            raise Unavailable(f"the prediction service at {self._url} answers {response.status_code}: {response.text[:300]}")
        if response.status_code != 200:
            raise ContractError(f"{self._url}{path} refuses the request: {response.status_code} {response.text[:300]}")
        answer: dict[str, Any] = orjson.loads(response.content)
        return answer
