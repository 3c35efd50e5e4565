"""Rebuild past predictions as a command line asks for it, and print what comes of it."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from airquality.ground import log
from airquality.ground.errors import ContractError, UsageError
from airquality.ground.files import write_atomically
from airquality.ground.settings import Settings, read_settings
from airquality.ground.shown import printable
from airquality.model import registry
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, HOUR_LIMITS, TARGET_UNIT, hour_of, isoformat
from airquality.replay.comparison import Comparison, compare, daily_rmse
from airquality.replay.explain import COLUMN_METHOD, GROUP_METHOD, Contribution, Explanation, explain
from airquality.replay.past import Past, read_past
from airquality.replay.rebuild import Rebuilt, inputs_of, rebuild
from airquality.reports import explained
from airquality.reports.asked import link_from_reports
from airquality.reports.folder import folder_name
from airquality.reports.paths import comparison_page, prediction_page

#: Exit status: a prediction could not be rebuilt, or not to the bit.
NOT_EQUAL = 3
_EVER = range(hour_of(HOUR_LIMITS[0]), hour_of(HOUR_LIMITS[1]) + 1)


def run(args: argparse.Namespace) -> int:
    """Answer the arguments of :mod:`airquality.replay.command`; 0 equal, 3 not equal or not to be rebuilt.

    Raises:
        AirQualityError: a row is gone, or Kafka or the registry does not answer.
    """
    hours, settings = _hours(args), read_settings()
    log.configure(settings.log_level, settings.log_format)
    registry.configure()
    past = read_past(settings, args.station, hours)
    model_of = functools.cache(functools.partial(_load, settings))
    rebuilt = list(rebuild(list(inputs_of(past)), model_of))
    other = model_of(args.other) if args.other else None
    if args.hour is not None:
        return _one(args, settings, past, rebuilt, model_of(past.predictions[0].model_version), other)
    return _many(args, settings, past, rebuilt, other)


def _load(settings: Settings, version: str) -> Model:
    return registry.load(settings, version).model


def _hours(args: argparse.Namespace) -> range:
    if args.hour is not None and (args.first is not None or args.last is not None):
        raise UsageError("--hour is one hour: leave it out where --from or --to are given")
    if args.page and args.hour is None and args.other is None:
        raise UsageError("--page needs --hour, to explain one prediction, or --version, to compare with what was published")
    if args.hour is not None:
        return range(args.hour, args.hour + 1)
    return range(_EVER.start if args.first is None else args.first, _EVER.stop if args.last is None else args.last + 1)


# ---- one prediction ----


def _one(
    args: argparse.Namespace, settings: Settings, past: Past, rebuilt: Sequence[Rebuilt], model: Model, other: Model | None
) -> int:
    if not rebuilt or past.gone_before is not None:
        raise ContractError(_gone(past))
    newest = rebuilt[-1]
    explanation = explain(newest, model)
    others = {args.other: float(other.predict(newest.row[None, :])[0])} if other else {}
    document = _document(newest, explanation, others, model.card.data_source)
    print(json.dumps(document) if args.json else "\n".join(_lines(newest, explanation, others)))
    if args.page:
        path = prediction_page(folder_name(args.station), document["DateTime"])
        _write_page(settings, path, explained.prediction(path, document))
        linked = link_from_reports(settings.reports_dir, args.station, document["DateTime"])
        print(f"linked by  {linked} reports whose windows hold this hour", file=sys.stderr)
    return 0 if newest.equal else NOT_EQUAL


def _write_page(settings: Settings, path: str, text: str) -> None:
    write_atomically(settings.reports_dir / path, text.encode())
    print(f"\npage       {settings.reports_dir / path}", file=sys.stderr)


def _gone(past: Past) -> str:
    first = past.predictions[0]
    needed = f"{isoformat(first.hour - HISTORY_HOURS)} to {isoformat(first.hour)}"
    begins = "" if past.gone_before is None else f" (what is left of the raw topic begins at offset {past.gone_before})"
    return (
        f"the prediction of {first.station_id} at {isoformat(first.hour)} cannot be rebuilt: raw rows of {needed} are gone, "
        f"deleted by retention or by hand{begins}"
    )


def _lines(rebuilt: Rebuilt, explanation: Explanation, others: dict[str, float]) -> list[str]:
    made, inputs = rebuilt.inputs.prediction, rebuilt.inputs
    known = float(np.mean(~np.isnan(inputs.grid)))
    error = made.prediction - inputs.actual
    measured = "" if np.isnan(error) else f", measured {inputs.actual:.2f} (error {error:+.2f})"
    said = f"{made.prediction:.3f} {TARGET_UNIT} by version {made.model_version}{measured}"
    return [
        printable(f"{made.station_id} {isoformat(made.hour)}: {said}"),
        f"raw row    partition {made.source_partition}, offset {made.source_offset}; {inputs.hours_with_row} of "
        f"{len(inputs.grid)} hours have a row, {known:.0%} of the values are known",
        f"rebuilt    {rebuilt.value!r}",
        f"published  {made.prediction!r}: {'equal to the bit' if rebuilt.equal else 'NOT EQUAL'}",
        *(f"version {version} would have said {value:.3f} {TARGET_UNIT}" for version, value in others.items()),
        *_table(f"by feature group, {TARGET_UNIT}", explanation.by_group, GROUP_METHOD),
        *_table(f"by raw column, {TARGET_UNIT}", explanation.by_column, COLUMN_METHOD),
    ]


def _table(title: str, parts: Sequence[Contribution], method: str) -> list[str]:
    total = sum(part.mg_m3 for part in parts)
    lines = [f"  {part.mg_m3:+8.3f}  {part.part}" for part in parts]
    return ["", title, *lines, f"  {total:8.3f}  in all", f"  ({method})"]


def _document(rebuilt: Rebuilt, explanation: Explanation, others: dict[str, float], data_source: str) -> dict[str, Any]:
    return {
        **_figures(rebuilt),
        "data_source": data_source,
        "hours_with_row": rebuilt.inputs.hours_with_row,
        "by_group": {"method": GROUP_METHOD, "parts": [asdict(part) for part in explanation.by_group]},
        "by_column": {"method": COLUMN_METHOD, "parts": [asdict(part) for part in explanation.by_column]},
        "other_versions": others,
    }


def _figures(rebuilt: Rebuilt) -> dict[str, Any]:
    made = rebuilt.inputs.prediction
    return {
        "station_id": made.station_id,
        "DateTime": isoformat(made.hour),
        "published": made.prediction,
        "rebuilt": rebuilt.value,
        "equal": rebuilt.equal,
        "actual": None if np.isnan(rebuilt.inputs.actual) else rebuilt.inputs.actual,
        "model_version": made.model_version,
        "source_partition": made.source_partition,
        "source_offset": made.source_offset,
    }


# ---- many predictions ----


def _many(args: argparse.Namespace, settings: Settings, past: Past, rebuilt: Sequence[Rebuilt], other: Model | None) -> int:
    whole = [each for each in rebuilt if past.gone_before is None or _has_its_history(each, past)]
    compared = compare(whole, args.other, other) if other else None
    for each in whole:
        if args.json:
            print(json.dumps(_figures(each)))
        elif not each.equal:
            made = each.inputs.prediction
            print(f"NOT EQUAL  {isoformat(made.hour)}: published {made.prediction!r}, rebuilt {each.value!r}")
    equal, gone = sum(each.equal for each in whole), len(past.predictions) - len(whole)
    if not args.json:
        print(printable(f"{args.station}: {len(past.predictions)} predictions, {equal} rebuilt equal to the bit"))
        if gone:
            print(
                f"{gone} not rebuilt: raw rows they were made of are gone (what is left begins at offset {past.gone_before})"
            )
    _say_comparison(args, compared, bool(other))
    if args.page and compared and other:
        document = _comparison_document(args.station, past, whole, compared, other)
        path = comparison_page(folder_name(args.station), document["first"], document["last"], compared.version)
        _write_page(settings, path, explained.comparison(path, document))
    return 0 if equal == len(past.predictions) else NOT_EQUAL


def _comparison_document(
    station_id: str, past: Past, whole: Sequence[Rebuilt], compared: Comparison, other: Model
) -> dict[str, Any]:
    hours = [each.inputs.prediction.hour for each in whole]
    return {
        "station_id": station_id,
        "first": isoformat(min(hours)),
        "last": isoformat(max(hours)),
        "versions": sorted({each.inputs.prediction.model_version for each in whole}),
        "predictions": len(past.predictions),
        "equal": sum(each.equal for each in whole),
        "comparison": asdict(compared),
        "difference": compared.difference,
        "data_source": other.card.data_source,
        "daily_rmse": daily_rmse(whole, other),
    }


def _has_its_history(rebuilt: Rebuilt, past: Past) -> bool:
    return past.first_hour <= rebuilt.inputs.prediction.hour - HISTORY_HOURS


def _say_comparison(args: argparse.Namespace, compared: Comparison | None, asked: bool) -> None:
    if compared is None:
        if asked and not args.json:
            print("no truth is known of these hours: the versions cannot be compared")
        return
    if args.json:
        print(json.dumps({"comparison": asdict(compared), "difference": compared.difference}))
        return
    print(
        f"RMSE of {compared.n} measured hours: published {compared.published_rmse:.4f}, version {compared.version} "
        f"{compared.other_rmse:.4f} {TARGET_UNIT}; difference {compared.difference:+.4f}, 90 % interval "
        f"{compared.low:+.4f} to {compared.high:+.4f} (paired, days drawn whole)"
    )
