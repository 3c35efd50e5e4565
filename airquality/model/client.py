"""Ask the prediction service over HTTP: the consumer's side of ``api_service.py``.

An answer is checked here, once, before anything is made of it. What a moment or an operator can mend is ``Unavailable`` and
waited for: no answer, any status but 200, an answer that is not what was asked for. A row the model has no usable value for
is refused by itself. Only a service of another release ends the consumer.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from airquality.ground.errors import ContractError, InvalidRecord, Unavailable
from airquality.model import features, rows
from airquality.model.predictor import Answers, FeatureRows
from airquality.model.rows import MAX_ROWS
from airquality.model.transport import Answer, Transport
from airquality.records import MAX_MODEL_VERSION_CHARACTERS, PREDICTION_LIMITS, TARGET_UNIT, RowAnswer, Served

_HINTS = {
    401: ": set API_KEY to that of the service; credentials for a proxy before it, API_URL may hold (http://user:password@host)",
    403: ": it refuses these credentials",
    **dict.fromkeys((301, 302, 303, 307, 308), ": redirects are not followed: set API_URL to where this one leads"),
    404: ": does API_URL name the prediction service?",
    405: ": does API_URL name the prediction service?",
    407: ": the proxy asks for credentials",
    429: ": it is asked too often",
}


class PredictionClient:
    """Ask the prediction service, many rows a request."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._thread = ThreadPoolExecutor(1, "predictions")

    def check(self) -> Served:
        """Return what the served model says of itself, once it is seen to read the features this process computes.

        Raises:
            ContractError: they differ.
            Unavailable: the service does not answer as a prediction service does.
        """
        answer = self._transport.ask("GET", "/version")
        if answer.status != 200:
            raise self._refused(answer)
        served, version = self._fields(answer, "features_hash", "model_version")
        declared = features.manifest()["hash"]
        if not isinstance(served, str) or not _is_version(version):
            raise self._malformed(answer)
        if served != declared:
            raise ContractError(
                f"{self._transport.shown_url} serves version {version}, fitted on features {served[:12]!r}, "
                f"but this consumer computes {str(declared)[:12]!r}: run both from the same release"
            )
        return _described(orjson.loads(answer.content), version)

    def begin(self, asked: FeatureRows) -> Answers:
        """Ask in a thread, and return once the request is on its way: other work would keep the interpreter from sending it.

        What is returned waits for the answers, and raises what :meth:`predict` does.
        """
        sent = self._transport.sent
        sent.clear()
        answers = self._thread.submit(self.predict, asked)
        answers.add_done_callback(lambda _: sent.set())  # it may have failed before anything was sent
        sent.wait()
        return answers.result

    def predict(self, asked: FeatureRows) -> list[RowAnswer]:
        """Return what the model says of each row.

        Raises:
            Unavailable: the service does not answer, has no model yet, or answers something else.
            ContractError: its model reads other features.
        """
        answers: list[RowAnswer] = []
        for start in range(0, len(asked), MAX_ROWS):
            answers += self._predict(asked.matrix[start : start + MAX_ROWS])
        return answers

    def _predict(self, matrix: NDArray[np.float64]) -> list[RowAnswer]:
        """Ask for the rows of one request, and again without those the service names as unusable, until it has the rest."""
        answers: dict[int, RowAnswer] = {}
        waiting = list(range(len(matrix)))
        while waiting:
            body = rows.encode_rows(features.NAMES, matrix[waiting])
            answer, asked = self._ask(body), rows.checksum(body)
            if answer.status == 413 and len(waiting) > 1:
                halves = np.array_split(matrix[waiting], 2)
                answers |= zip(waiting, self._predict(halves[0]) + self._predict(halves[1]), strict=True)
                break
            refused = _unusable_rows(answer, len(waiting), asked)
            if not refused:
                answers |= zip(waiting, self._checked(answer, len(waiting), asked), strict=True)
                break
            for index in refused:
                answers[waiting[index]] = InvalidRecord(
                    "unpredictable", f"the service has no value for it: {answer.excerpt}"
                )
            waiting = [position for index, position in enumerate(waiting) if index not in refused]
        return [answers[index] for index in range(len(matrix))]

    def _ask(self, body: bytes) -> Answer:
        return self._transport.ask("POST", "/predict/batch", body, rows.MEDIA_TYPE)

    def _checked(self, answer: Answer, n_rows: int, asked: int) -> list[RowAnswer]:
        """Return the predictions of an answer that holds one number for each row and a version; each within the limits.

        ``asked`` is the checksum of the request: an answer that does not name it is another request's.
        """
        if answer.status == 422:
            self.check()  # a model of other features refuses every request: no waiting mends that
        if answer.status != 200:
            raise self._refused(answer)
        predictions, version, answered = self._fields(answer, "predictions", "model_version", optional=rows.ANSWERED)
        if not _is_version(version):
            raise self._malformed(answer)
        if not isinstance(predictions, list) or not set(map(type, predictions)) <= {float, int}:
            raise self._malformed(answer)
        if len(predictions) != n_rows:
            raise self._transport.unavailable(f"answers {len(predictions)} predictions for {n_rows} rows")
        if answered != asked:
            raise self._transport.unavailable(
                f"does not answer the rows it was asked for ({rows.ANSWERED}): something in between answers with what it "
                f"kept, or the service is of another release"
            )
        return [_within_limits(float(prediction), version) for prediction in predictions]

    def _fields(self, answer: Answer, *fields: str, optional: str = "") -> list[Any]:
        """Return what an answer says under these names, and under one that may be absent, which is None then."""
        try:
            content = orjson.loads(answer.content)
            return [content[field] for field in fields] + ([content.get(optional)] if optional else [])
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise self._malformed(answer) from error

    def _malformed(self, answer: Answer) -> Unavailable:
        return self._transport.unavailable(f"answers as no prediction service does: {answer.excerpt!r}")

    def _refused(self, answer: Answer) -> Unavailable:
        return self._transport.unavailable(f"answers {answer.status}{_HINTS.get(answer.status, '')}: {answer.excerpt}")


def _unusable_rows(answer: Answer, n_rows: int, asked: int) -> set[int]:
    """Return the rows a 422 names as those the model has no value for, by their index in the request ``asked``."""
    if answer.status != 422:
        return set()
    try:
        content = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return set()
    if not isinstance(content, dict) or content.get("reason") != "unpredictable" or content.get(rows.ANSWERED) != asked:
        return set()
    named = content.get("rows")
    listed = [*(named if isinstance(named, list) else []), content.get("row")]
    return {row for row in listed if type(row) is int and 0 <= row < n_rows}


def _described(content: dict[str, Any], version: str) -> Served:
    """Return what a service says of its model; None for what it leaves out, or says in another way."""

    def text(name: str) -> str | None:
        value = content.get(name)
        return value if isinstance(value, str) else None

    scores = content.get("scores")
    validation = scores.get("validation") if isinstance(scores, dict) else None
    rmse = validation.get("rmse") if isinstance(validation, dict) else None
    return Served(version, text("data_source"), text("data_hash"), rmse if isinstance(rmse, float) else None)


def _is_version(version: object) -> bool:
    return isinstance(version, str) and 0 < len(version) <= MAX_MODEL_VERSION_CHARACTERS and version.isprintable()


def _within_limits(prediction: float, version: str) -> RowAnswer:
    low, high = PREDICTION_LIMITS
    if low <= prediction <= high:
        return prediction, version
    return InvalidRecord(
        "unpredictable", f"model version {version} says {prediction:g} {TARGET_UNIT}, outside [{low}, {high}]"
    )
