from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from airquality.ground import log
from airquality.ground.errors import UsageError
from airquality.ground.settings import Settings
from airquality.incoming import LateTruth
from airquality.model import features
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, Prediction, Reading, isoformat
from airquality.replay import command, run
from airquality.replay.comparison import compare, daily_rmse
from airquality.replay.explain import explain
from airquality.replay.past import Past, Row, read_past
from airquality.replay.rebuild import Rebuilt, inputs_of, rebuild
from airquality.reports import explained
from airquality.stream import kafka_io
from tests.stations import FIRST_HOUR, readings_of, values_of
from tests.system import ARTIFACTS

N_PREDICTED = 4


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(ARTIFACTS)


def past_of(given: Sequence[Reading], model: Model) -> Past:
    """Return what Kafka would hold: the rows at offsets 0, 2, 4 ... and the predictions of all after the warm-up."""
    rows = [Row((0, 2 * index), reading) for index, reading in enumerate(given)]
    first = given[0].hour
    hours = np.arange(first, given[-1].hour + 1)
    grid = np.full((len(hours), len(RAW_COLUMNS)), np.nan)
    grid[[reading.hour - first for reading in given]] = [reading.values for reading in given]
    values = model.predict(features.batch(hours, grid))
    predictions = [
        Prediction(reading.station_id, reading.hour, float(values[reading.hour - first]), reading.actual, "1", 0, 2 * index)
        for index, reading in enumerate(given)
        if index >= HISTORY_HOURS
    ]
    return Past(predictions, rows, None)


def readings(n_hours: int) -> list[Reading]:
    """Return rows that may be streamed: the weather within its limits."""
    values = values_of(n_hours)
    values[:, [RAW_COLUMNS.index(name) for name in ("T", "RH", "AH")]] /= 4
    return readings_of(values, "roof")


@pytest.fixture(scope="module")
def past(model: Model) -> Past:
    return past_of(readings(HISTORY_HOURS + N_PREDICTED), model)


@pytest.fixture(scope="module")
def rebuilt(past: Past, model: Model) -> list[Rebuilt]:
    return list(rebuild(list(inputs_of(past)), lambda _: model))


def test_rebuild_of_every_prediction_is_equal_to_the_bit(rebuilt: list[Rebuilt]) -> None:
    assert [each.equal for each in rebuilt] == [True] * N_PREDICTED


def test_rebuild_of_another_published_value_is_not_equal(past: Past, model: Model) -> None:
    lied = replace(past, predictions=[p._replace(prediction=math.nextafter(p.prediction, 99)) for p in past.predictions])
    assert not any(each.equal for each in rebuild(list(inputs_of(lied)), lambda _: model))


def test_rebuild_across_gaps_is_equal_to_the_bit(model: Model) -> None:
    gappy = [
        r
        for index, r in enumerate(readings(HISTORY_HOURS + 40))
        if index not in range(100, 103) and index not in range(180, 190)
    ]
    past = past_of(gappy, model)
    assert [each.equal for each in rebuild(list(inputs_of(past)), lambda _: model)] == [True] * len(past.predictions)


def test_inputs_of_an_hour_that_came_twice_are_those_of_the_first(past: Past) -> None:
    made = past.predictions[0]
    repeated = Row((0, made.source_offset + 1), Reading("roof", made.hour, (9.0,) * len(RAW_COLUMNS)))
    twice = replace(past, rows=sorted([*past.rows, repeated], key=lambda row: row.place))
    assert [each.grid.tobytes() for each in inputs_of(twice)] == [each.grid.tobytes() for each in inputs_of(past)]


def late(past: Past, index: int, offset: int) -> Past:
    """Return a past whose row at ``index`` was streamed without its truth, which came later, at an odd offset."""
    row = past.rows[index]
    assert isinstance(row.content, Reading)
    blind = Row(row.place, replace(row.content, values=(math.nan, *row.content.values[1:])))
    truth = Row((0, offset), LateTruth("roof", row.content.hour, row.content.values[0]))
    return replace(
        past, rows=sorted([*past.rows[:index], blind, *past.rows[index + 1 :], truth], key=lambda each: each.place)
    )


def test_inputs_of_a_late_truth_are_seen_only_by_what_came_after_it(past: Past) -> None:
    silent = HISTORY_HOURS - 2
    inputs = list(inputs_of(late(past, silent, past.predictions[1].source_offset + 1)))
    seen = [each.grid[HISTORY_HOURS - 2 - index, 0] for index, each in enumerate(inputs)]
    assert [math.isnan(value) for value in seen] == [True, True, False, False]


def test_inputs_of_a_late_truth_give_the_actual_of_its_own_hour(past: Past) -> None:
    made = past.predictions[0]
    blind = replace(late(past, HISTORY_HOURS, made.source_offset + 3), predictions=[made._replace(actual=math.nan)])
    assert [each.actual for each in inputs_of(blind)] == [made.actual]


def test_inputs_of_a_truth_that_filled_nothing_leave_the_actual_as_it_was(past: Past) -> None:
    made = past.predictions[0]
    blind = replace(late(past, HISTORY_HOURS, made.source_offset + 1), predictions=[made._replace(actual=math.nan)])
    contradicting = Row((0, made.source_offset + 3), LateTruth("roof", made.hour, made.actual + 1.0))
    told_twice = replace(blind, rows=sorted([*blind.rows, contradicting], key=lambda row: row.place))
    assert [each.actual for each in inputs_of(told_twice)] == [made.actual]


def test_explain_both_sums_are_the_prediction(rebuilt: list[Rebuilt], model: Model) -> None:
    explanation = explain(rebuilt[0], model)
    for parts in (explanation.by_group, explanation.by_column):
        assert sum(part.mg_m3 for part in parts) == pytest.approx(rebuilt[0].value, abs=1e-9)
    assert {part.part for part in explanation.by_column[1:]} == set(features.INPUT_COLUMNS)


def test_explain_of_a_silent_column_leaves_it_out(model: Model) -> None:
    rh = RAW_COLUMNS.index("RH")
    rows = readings(HISTORY_HOURS + 1)
    silent = [replace(row, values=(*row.values[:rh], math.nan, *row.values[rh + 1 :])) for row in rows]
    [rebuilt] = rebuild(list(inputs_of(past_of(silent, model))), lambda _: model)
    assert "RH" not in {part.part for part in explain(rebuilt, model).by_column}


def test_compare_with_the_same_model_is_no_difference(rebuilt: list[Rebuilt], model: Model) -> None:
    compared = compare(rebuilt, "1", model)
    assert compared is not None
    assert (compared.difference, compared.low, compared.high, compared.n) == (0.0, 0.0, 0.0, N_PREDICTED)


def test_compare_without_truths_is_none(rebuilt: list[Rebuilt], model: Model) -> None:
    blind = [replace(each, inputs=replace(each.inputs, actual=math.nan)) for each in rebuilt]
    assert compare(blind, "1", model) is None


@pytest.mark.parametrize(
    "arguments",
    ["--hour 2005-03-01T08:00 --from 2005-03-01T00:00", "--page", "--hour yesterday", "--hour 2005-03-01T08:30"],
)
def test_command_wrong_usage_exits_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = command.main(["--station", "roof", *arguments.split()])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err


def publish(settings: Settings, past: Past, first: int = 0) -> None:
    """Write the rows at consecutive offsets, and the predictions that were made of them."""
    offset_of = {row.place: offset for offset, row in enumerate(past.rows)}
    with kafka_io.idempotent_producer(settings) as producer:
        for row in past.rows:
            producer.send(
                settings.raw_topic,
                key=b"roof",
                value=row.content.to_bytes(),
                headers=row.content.headers if isinstance(row.content, LateTruth) else [],
                partition=1,
            )
        for made in past.predictions:
            offset = offset_of[(made.source_partition, made.source_offset)]
            moved = made._replace(source_partition=1, source_offset=offset)
            producer.send(settings.pred_topic, key=b"roof", value=moved.to_bytes(), partition=1)
        producer.flush()


@pytest.mark.broker
def test_command_rebuilds_what_a_real_broker_holds_and_says_what_is_gone(
    settings: Settings, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    past = past_of(readings(HISTORY_HOURS + N_PREDICTED), model)
    publish(settings, past)
    chosen = settings.model_copy(update={"reports_dir": tmp_path})
    monkeypatch.setattr(run, "read_settings", lambda: chosen)
    monkeypatch.setattr(run, "_load", lambda *_: model)
    monkeypatch.setattr(log, "configure", lambda *_: None)
    hour = past.predictions[-1].hour

    assert command.main(["--station", "roof", "--json"]) == 0
    assert [json.loads(line)["equal"] for line in capsys.readouterr().out.splitlines()] == [True] * N_PREDICTED

    one = ["--station", "roof", "--hour", str(np.datetime64(hour, "h")) + ":00", "--page"]
    assert command.main(one) == 0
    assert "equal to the bit" in capsys.readouterr().out
    [page] = (tmp_path / "replay" / "roof").glob("*.html")
    assert "rebuilt equal to the bit" in page.read_text()

    assert command.main(["--station", "roof", "--version", "2", "--page"]) == 0
    said = capsys.readouterr()
    assert "RMSE of" in said.out
    compared = Path(said.err.partition("page       ")[2].strip()).read_text()
    assert f"{N_PREDICTED} of {N_PREDICTED} published predictions rebuilt equal to the bit" in compared
    assert "No difference that these hours can show" in compared

    assert command.main(["--station", "cellar"]) == 2
    assert "no prediction of station" in capsys.readouterr().err

    delete_before(settings, 1, HISTORY_HOURS // 2)
    assert command.main(one) == 1
    assert f"begins at offset {HISTORY_HOURS // 2}" in capsys.readouterr().err
    assert command.main(["--station", "roof"]) == run.NOT_EQUAL


def delete_before(settings: Settings, partition: int, offset: int) -> None:
    from kafka import TopicPartition

    admin = kafka_io.open_admin(settings)
    admin.delete_records({TopicPartition(settings.raw_topic, partition): offset})
    admin.close()


def test_prediction_page_escapes_a_station_id() -> None:
    document = {
        "station_id": "<b>", "DateTime": "2005-03-01T08:00:00", "published": 1.0, "rebuilt": 1.0, "equal": True,
        "actual": None,
        "model_version": "1", "source_partition": 0, "source_offset": 0, "hours_with_row": 169, "data_source": "uci",
        "by_group": {"method": "m", "parts": []}, "by_column": {"method": "m", "parts": []}, "other_versions": {},
    }  # fmt: skip
    assert "<b>" not in explained.prediction("replay/x/y.html", document).partition("<h1>")[2].partition("</h1>")[0]


def test_read_past_names_the_hour_that_has_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_io, "partitions", lambda *_: [])
    with pytest.raises(UsageError, match=isoformat(FIRST_HOUR)):
        read_past(Settings(), "roof", range(FIRST_HOUR, FIRST_HOUR + 1))


def test_daily_rmse_is_that_of_the_days_measured_hours_and_none_without_one(rebuilt: list[Rebuilt], model: Model) -> None:
    first = rebuilt[0].inputs.prediction.hour // 24 * 24
    made = [_at(rebuilt[0], first, error=3.0), _at(rebuilt[0], first + 2, error=-4.0), _at(rebuilt[0], first + 24, math.nan)]
    series = daily_rmse(made, model)
    assert series["published"] == [pytest.approx(math.sqrt(12.5))] * 24 + [None]
    assert [value is None for value in series["other"]] == [False] * 24 + [True]


def _at(rebuilt: Rebuilt, hour: int, error: float) -> Rebuilt:
    prediction = rebuilt.inputs.prediction._replace(hour=hour, prediction=5.0)
    return replace(rebuilt, inputs=replace(rebuilt.inputs, prediction=prediction, actual=5.0 - error))
