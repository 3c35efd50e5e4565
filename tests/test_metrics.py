from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from airquality.metrics import (
    INFERENCE_ERRORS,
    NAMED_STATIONS,
    OUTCOMES,
    REPORT_KINDS,
    REPORT_RESULTS,
    STATION_PREDICTION,
    ApiMetrics,
    ConsumerMetrics,
    StationMetrics,
    expose_process,
)
from airquality.records import DEAD_LETTER_REASONS, Prediction
from airquality.stream.batch import Batch
from airquality.stream.gauges import Gauges
from tests.simulated_kafka import SimulatedKafka
from tests.worker_rig import Clock, Stream

#: What the user's dashboards and scrapes rely on, by where it is exposed: sample name and type.
FIXED_BY_THE_USER = {
    ApiMetrics: {
        "prediction_latency_bucket": "histogram",
        "prediction_latency_sum": "histogram",
        "prediction_latency_count": "histogram",
        "prediction_value": "gauge",
        "missing_values_count": "gauge",
        "inference_errors_total": "counter",
        "predictions_total": "counter",
    },
    ConsumerMetrics: {"kafka_messages_consumed_total": "counter"},
}

Samples = dict[tuple[str, tuple[str, ...]], float]


def exposed(metrics: Callable[[CollectorRegistry], object]) -> tuple[dict[str, str], Samples]:
    """The type of every sample name, and every sample by name and label values, as a scrape of a fresh process sees them."""
    registry = CollectorRegistry()
    metrics(registry)
    types, samples = {}, {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            types[sample.name] = family.type
            samples[sample.name, tuple(sample.labels.values())] = sample.value
    return types, samples


@pytest.mark.parametrize("metrics", FIXED_BY_THE_USER, ids=lambda metrics: metrics.__name__)
def test_the_names_fixed_by_the_user_are_exposed_as_they_are(metrics: type[ApiMetrics | ConsumerMetrics]) -> None:
    types, samples = exposed(metrics)
    assert FIXED_BY_THE_USER[metrics].items() <= types.items()
    assert {name for name, _ in samples} >= set(FIXED_BY_THE_USER[metrics])  # from the start, not from the first event


@pytest.mark.parametrize(
    ("metrics", "name", "children"),
    [
        (ApiMetrics, "inference_errors_total", [(reason,) for reason in INFERENCE_ERRORS]),
        (ApiMetrics, "predictions_total", [()]),
        (ConsumerMetrics, "kafka_messages_consumed_total", [()]),
        (ConsumerMetrics, "air_quality_rows_total", OUTCOMES),
        (
            ConsumerMetrics,
            "air_quality_reports_total",
            [(kind, result) for kind in REPORT_KINDS for result in REPORT_RESULTS],
        ),
    ],
)
def test_zero_shows_for_every_child_of_a_closed_set(
    metrics: type[ApiMetrics | ConsumerMetrics], name: str, children: list[tuple[str, ...]]
) -> None:
    _, samples = exposed(metrics)
    assert {labels: value for (sample, labels), value in samples.items() if sample == name} == dict.fromkeys(children, 0.0)


@pytest.mark.parametrize("metrics", FIXED_BY_THE_USER, ids=lambda metrics: metrics.__name__)
def test_no_counter_begins_without_a_sample(metrics: type[ApiMetrics | ConsumerMetrics]) -> None:
    registry = CollectorRegistry()
    made = metrics(registry)
    if isinstance(made, ConsumerMetrics):
        made.stations.open("roof")  # what is counted by station begins with the station
    counters = [family for family in registry.collect() if family.type == "counter"]
    assert counters
    assert [family.name for family in counters if not family.samples] == []


def stations(named: int = NAMED_STATIONS) -> tuple[StationMetrics, CollectorRegistry]:
    registry = CollectorRegistry()
    return StationMetrics(registry, named), registry


def test_stations_of_an_opened_station_show_their_zeros() -> None:
    shown, registry = stations()
    shown.alarm_labels = ("data_drift", "sensor")
    shown.open("roof")
    for alarm in shown.alarm_labels:
        assert registry.get_sample_value("air_quality_open_alarms", {"station": "roof", "alarm": alarm, "column": ""}) == 0
    for kind in REPORT_KINDS:
        assert registry.get_sample_value("air_quality_windows_total", {"station": "roof", "kind": kind}) == 0
        assert registry.get_sample_value("air_quality_drift_windows_total", {"station": "roof", "kind": kind}) == 0


def test_stations_beyond_the_limit_share_one_name_and_add_their_alarms() -> None:
    shown, registry = stations(named=2)
    drift = {"station": "other", "alarm": "data_drift", "column": ""}
    for name in ("a", "b", "c", "d"):
        shown.open(name)
        shown.show_alarms(name, [("data_drift", ""), ("data_drift", "")])
        shown.show_prediction(name, 1.5)
    assert {labels["station"] for labels in labels_of(registry, "air_quality_station_prediction_mg_m3")} == {
        "a",
        "b",
        "other",
    }
    assert registry.get_sample_value("air_quality_open_alarms", drift) == 4
    shown.show_alarms("c", [("missing", "T")])
    assert registry.get_sample_value("air_quality_open_alarms", drift) == 2
    shown.forget("d")
    assert registry.get_sample_value("air_quality_open_alarms", drift) == 0
    assert registry.get_sample_value("air_quality_open_alarms", {"station": "other", "alarm": "missing", "column": "T"}) == 1


def test_stations_none_of_them_named_cost_the_same_however_many() -> None:
    pages = []
    for number in (1, 300):
        shown, registry = stations(named=0)
        for station in range(number):
            shown.open(f"station_{station}")
            shown.show_prediction(f"station_{station}", 1.5, 1.0, 2.0)
        pages.append(generate_latest(registry).count(b"\n"))
    assert pages[0] == pages[1]


def test_stations_let_go_leave_no_series_and_may_come_back() -> None:
    shown, registry = stations()
    for _ in range(2):
        shown.open("roof")
        shown.show_prediction("roof", 1.5)
        shown.show_row("roof", 1_790_000_000_000, 307_668)
        shown.show_alarms("roof", [("sensor", "T")])
        shown.show_window("roof", "daily", 0.3, 0.3)
        shown.count_window("roof", "daily", drifted=True)
        shown.forget("roof")
    assert [sample for family in registry.collect() for sample in family.samples] == []


def test_stations_hourly_shows_what_is_learned_and_how_old_the_thresholds_are() -> None:
    shown, registry = stations()
    shown.open("roof")
    shown.show_hourly("roof", learning=3, thresholds_age_hours=24)
    shown.show_hourly("roof", learning=0, thresholds_age_hours=None)  # the detectors are off: what was known stays
    labels = {"station": "roof"}
    assert registry.get_sample_value("air_quality_thresholds_age_seconds", labels) == 86_400
    assert registry.get_sample_value("air_quality_learning_columns", labels) == 0
    shown.forget("roof")
    assert registry.get_sample_value("air_quality_thresholds_age_seconds", labels) is None


def test_stations_window_without_enough_truths_leaves_the_error_of_the_last_one() -> None:
    shown, registry = stations()
    shown.open("roof")
    for rmse, drifted in ((0.3, False), (math.nan, True)):
        shown.show_window("roof", "daily", rmse, math.nan)
        shown.count_window("roof", "daily", drifted=drifted)
    labels = {"station": "roof", "kind": "daily"}
    found = [registry.get_sample_value(f"air_quality_{name}", labels) for name in ("window_rmse", "windows_total")]
    assert found == [0.3, 2]
    assert registry.get_sample_value("air_quality_drift_windows_total", labels) == 1


def labels_of(registry: CollectorRegistry, name: str) -> list[dict[str, str]]:
    return [sample.labels for family in registry.collect() for sample in family.samples if sample.name == name]


def test_every_reason_for_a_dead_letter_is_an_outcome() -> None:
    assert {reason for outcome, reason in OUTCOMES if outcome == "dead_letter"} == set(DEAD_LETTER_REASONS)
    assert {outcome for outcome, _ in OUTCOMES} == {"warmup", "prediction", "duplicate", "dead_letter", "truth", "operation"}


def test_latency_is_in_seconds_and_counts_requests() -> None:
    registry = CollectorRegistry()
    api = ApiMetrics(registry)
    api.latency.observe(0.015)
    assert registry.get_sample_value("prediction_latency_sum") == 0.015
    assert registry.get_sample_value("prediction_latency_count") == 1
    assert registry.get_sample_value("prediction_latency_bucket", {"le": "0.01"}) == 0
    assert registry.get_sample_value("prediction_latency_bucket", {"le": "0.02"}) == 1


def test_two_processes_in_one_share_nothing() -> None:
    before = {family.name for family in REGISTRY.collect()}
    first, second = CollectorRegistry(), CollectorRegistry()
    ApiMetrics(first).predictions.inc()
    ApiMetrics(second)
    ConsumerMetrics(second)  # one registry may hold both
    assert (first.get_sample_value("predictions_total"), second.get_sample_value("predictions_total")) == (1, 0)
    assert {family.name for family in REGISTRY.collect()} == before


@pytest.mark.parametrize("metrics", FIXED_BY_THE_USER, ids=lambda metrics: metrics.__name__)
def test_metric_name_that_is_not_fixed_has_the_prefix(metrics: type[ApiMetrics | ConsumerMetrics]) -> None:
    registry = CollectorRegistry()
    metrics(registry)
    fixed = {name.removesuffix("_total").removesuffix("_bucket") for name in FIXED_BY_THE_USER[metrics]}
    own = {family.name for family in registry.collect()} - fixed
    assert own
    assert {name for name in own if not name.startswith("air_quality_")} == set()


def test_expose_process_on_a_fresh_registry_names_memory_and_interpreter() -> None:
    registry = CollectorRegistry()
    expose_process(registry)
    names = {family.name for family in registry.collect()}
    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= names


def test_gauges_batch_of_unnamed_stations_shows_the_last_prediction_of_all() -> None:
    registry, clock = CollectorRegistry(), Clock()
    metrics = ConsumerMetrics(registry, named_stations=0)
    sent = [("first", 1.0), ("second", 2.0), ("first", 3.0)]
    for station_id in ("first", "second"):
        metrics.stations.open(station_id)
    batch = Batch(predictions=[Prediction(name, 1, value, 1.0, "1", 0, at) for at, (name, value) in enumerate(sent)])
    Gauges(metrics, Stream(SimulatedKafka(), clock), clock).show(batch)
    assert registry.get_sample_value(STATION_PREDICTION, {"station": "other"}) == 3.0
