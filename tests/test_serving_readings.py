"""Raw readings sent by hand: the stream's own prediction, and refusals that say which reading is wrong."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import orjson
import pytest

from airquality.data import simulator
from airquality.ground.settings import Settings
from airquality.model import features
from airquality.model.model import Model
from airquality.model.registry import RegisteredModel
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, Reading, isoformat
from airquality.serving.problems import RequestError
from airquality.serving.served import ServedModel
from airquality.serving.slots import Slot
from airquality.stream.feature_rows import take_features
from api_service import newest_features
from feature_buffer import FeatureBuffer
from tests.system import ARTIFACTS


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(ARTIFACTS)


@pytest.fixture
def service(model: Model) -> ServedModel:
    made = ServedModel(Slot(), Settings(), newest_features)
    made.serve(RegisteredModel(model, "air-quality-co", "7"))
    return made


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    """Simulated hours of one station with the simulator's own gaps in values, and six hours that never came."""
    hours, values = simulator.simulate(360)
    kept = [i for i in range(3000, 3600) if i not in (3200, 3201, 3555, 3560, 3590, 3591)]
    return [Reading("s", int(hours[i]), tuple(values[i].tolist())) for i in kept]


def as_rows(sent: list[Reading]) -> list[dict[str, Any]]:
    rows = [orjson.loads(reading.to_bytes()) for reading in sent]
    return [{name: value for name, value in row.items() if name != "station_id"} for row in rows]


def as_json(sent: list[Reading]) -> bytes:
    return orjson.dumps({"readings": as_rows(sent)})


def as_csv(sent: list[Reading]) -> bytes:
    text = io.StringIO()
    lines = csv.DictWriter(text, ("DateTime", *RAW_COLUMNS))
    lines.writeheader()
    lines.writerows({name: "" if value is None else value for name, value in row.items()} for row in as_rows(sent))
    return text.getvalue().encode()


def streamed(model: Model, sent: list[Reading]) -> dict[int, float]:
    """Return what the stream publishes for these readings, taken one by one, by hour."""
    buffer, published = FeatureBuffer(), {}
    for reading in sent:
        buffer.push(reading)
        for value in model.predict(take_features([buffer])):
            published[reading.hour] = float(value)
    return published


@pytest.mark.parametrize("last", [HISTORY_HOURS + 2, 260, 470, 555, 560, 588])
def test_predict_from_readings_is_the_streams_prediction_to_the_bit(
    service: ServedModel, model: Model, readings: list[Reading], last: int
) -> None:
    expected = streamed(model, readings)[readings[last].hour]
    window = [reading for reading in readings[: last + 1] if reading.hour >= readings[last].hour - HISTORY_HOURS - 3]
    for body in (as_json(readings[: last + 1]), as_json(window), as_csv(window)):
        answer = service.predict_from_readings(body)
        assert answer["prediction"] == expected
        assert answer["DateTime"] == isoformat(readings[last].hour)
        assert (answer["unit"], answer["model_version"]) == ("mg/m3", "7")


def test_predict_from_readings_says_what_it_used_and_what_was_missing(service: ServedModel, readings: list[Reading]) -> None:
    sent = readings[:330]
    used = [reading for reading in sent if reading.hour >= sent[-1].hour - HISTORY_HOURS]
    answer = service.predict_from_readings(as_json(sent))
    assert answer["hours_used"] == len(used) < HISTORY_HOURS + 1
    silent = [*sent[:-1], Reading("s", sent[-1].hour, (np.nan,) * len(RAW_COLUMNS))]
    missing = service.predict_from_readings(as_json(silent))["missing_features"]
    assert set(answer["missing_features"]) < set(missing) < set(features.NAMES)


def test_predict_from_readings_truth_of_the_last_hour_changes_nothing(service: ServedModel, readings: list[Reading]) -> None:
    rows = as_rows(readings[:300])
    answer = service.predict_from_readings(orjson.dumps({"readings": rows}))
    rows[-1]["CO(GT)"] = 99.0
    assert service.predict_from_readings(orjson.dumps({"readings": rows})) == answer


@pytest.mark.parametrize("first", [1, 100, 168])
def test_predict_from_readings_fewer_hours_than_needed_say_from_when(
    service: ServedModel, readings: list[Reading], first: int
) -> None:
    sent = readings[first:169]
    problem = refused(service, as_json(sent))
    assert problem["needed_from"] == isoformat(sent[-1].hour - HISTORY_HOURS)
    assert "168 hours before it" in problem["detail"]


def test_predict_from_readings_after_a_silence_of_a_week_are_refused(service: ServedModel, readings: list[Reading]) -> None:
    assert "168 hours before it" in refused(service, as_json([*readings[:200], *readings[380:400]]))["detail"]
    assert service.predict_from_readings(as_json([*readings[:200], *readings[300:310]]))["hours_used"] < 169


def refused(service: ServedModel, body: bytes, content_type: str = "", status: int = 422) -> dict[str, Any]:
    with pytest.raises(RequestError) as caught:
        service.predict_from_readings(body, content_type)
    assert caught.value.status == status
    return caught.value.problem()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"T": "warm"}, "T must be a number or null"),
        ({"T": 1e9}, "T = 1000000000.0 lies outside"),
        ({"DateTime": "2005-02-05 03:30"}, "not on the hour"),
        ({"DateTime": None}, "DateTime must be local time"),
        ({"CO(GT)": [1]}, "CO(GT) must be a number or null"),
    ],
)
def test_predict_from_readings_wrong_value_names_the_reading(
    service: ServedModel, readings: list[Reading], change: dict[str, Any], message: str
) -> None:
    rows = as_rows(readings[:200])
    rows[17].update(change)
    problem = refused(service, orjson.dumps({"readings": rows}))
    assert problem["row"] == 17
    assert message in problem["detail"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "must be a JSON object"),
        (b'{"readings": {}}', "'readings' must be a JSON array"),
        (b'{"readings": []}', "there are no readings"),
        (b'{"readings": [1]}', "reading 0 must be a JSON object"),
        (b'{"readings": [{"DateTime": "2005-02-05T03:00:00"}]}', "columns absent"),
        (b"", "the first line must name each column once"),
        (b"DateTime,T\n2005-02-05T03:00:00,1\n", "the first line must name each column once"),
        (b"\xff\xfe", "neither JSON nor CSV"),
    ],
)
def test_predict_from_readings_other_shapes_are_refused(service: ServedModel, body: bytes, message: str) -> None:
    assert message in refused(service, body)["detail"]


def test_predict_from_readings_csv_cell_too_many_names_the_reading(service: ServedModel, readings: list[Reading]) -> None:
    lines = as_csv(readings[:200]).splitlines()
    lines[5] += b",1"
    assert refused(service, b"\n".join(lines))["row"] == 4
    lines[5] = lines[4].replace(b",", b",x", 1)
    assert "must be a number" in refused(service, b"\n".join(lines))["detail"]


def test_predict_from_readings_out_of_order_or_of_two_stations_are_refused(
    service: ServedModel, readings: list[Reading]
) -> None:
    late = Reading("s", readings[50].hour, (1.0,) * len(RAW_COLUMNS))
    assert "time order" in refused(service, as_json([*readings[:200], late, readings[200]]))["detail"]
    rows = as_rows(readings[:200])
    mixed = [{**row, "station_id": f"station {i % 2}"} for i, row in enumerate(rows)]
    assert "2 stations" in refused(service, orjson.dumps({"readings": mixed}))["detail"]


def test_predict_from_readings_too_many_are_413(service: ServedModel, readings: list[Reading]) -> None:
    assert "at most 1000" in refused(service, as_json(readings[:300] * 4), status=413)["detail"]


def test_predict_from_readings_is_counted_like_every_prediction(service: ServedModel, readings: list[Reading]) -> None:
    answer = service.predict_from_readings(as_json(readings[:300]))
    count = service.registry.get_sample_value
    assert count("predictions_total") == count("prediction_latency_count") == 1
    assert count("prediction_value") == answer["prediction"]
    assert count("missing_values_count") == len(answer["missing_features"])
