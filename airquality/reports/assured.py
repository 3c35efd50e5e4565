"""What a window's page says of its intervals, of the error that was expected, and of truth that came late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airquality.network.current import NETWORK
from airquality.reports import figures

_TARGET, _UNIT = NETWORK.target.spoken, NETWORK.target.unit


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """A line of the table of errors; ``dotted`` where it has no truth yet."""

    name: str
    rmse: float | None
    mae: float | None
    n: int | None
    dotted: bool = False


def error_lines(document: Mapping[str, Any]) -> list[ErrorLine]:
    """Return the errors of a window: expected, as known when it closed, and final, as far as there are any."""
    settled, expected = document.get("settled"), document.get("estimated_rmse")
    lines = []
    if expected is not None:
        lines.append(ErrorLine("Expected before its truth", expected, None, None, dotted=not _has_truth(document)))
    if settled is None:
        return lines
    known, final = settled["known_then"], settled["final"]
    lines.append(ErrorLine("As known when it closed", known["rmse"], known["mae"], known["n"]))
    lines.append(ErrorLine("Final", final["rmse"], final["mae"], final["n"]))
    return lines


def _has_truth(document: Mapping[str, Any]) -> bool:
    return document.get("settled") is not None or bool(document["error_judged"])


def sentences(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be said of intervals and truth, a sentence each."""
    settled, expected = document.get("settled"), document.get("estimated_rmse")
    covered = (settled or document).get("coverage") or {}
    if covered.get("all", {}).get("truths"):
        inside, truths = covered["all"]["inside"], covered["all"]["truths"]
        yield f"{inside} of {truths} measured {_TARGET} lie inside the 90 % interval ({inside / truths:.0%})."
    if settled is not None:
        yield from _settled(settled)
    elif expected is not None and not _has_truth(document):
        yield f"Its truth is not in yet: an RMSE of about {figures.measured(expected, _UNIT)} is to be expected."


def _settled(settled: Mapping[str, Any]) -> Iterator[str]:
    final, rows, expected = settled["final"], settled["rows"], settled["estimated_rmse"]
    late = f"{settled['late_truths']} truths came late, {settled['label_delay_hours']:.0f} h after their hour on average."
    if settled["settled_by"] == "truth":
        yield f"Final: the truth of all {rows} predicted hours is in. {late}"
    else:
        yield f"Final: its deadline has passed, {final['n']} of {rows} predicted hours have a truth. {late}"
    if expected is not None and final["rmse"]:
        off = abs(expected - final["rmse"]) / final["rmse"]
        yield f"The RMSE expected before its truth was {figures.measured(expected, _UNIT)}: {off:.0%} off."


def coverage_lines(document: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Return, by level and state, how many truths there are and how many lie inside; those without truths are left out."""
    covered = (document.get("settled") or document).get("coverage") or {}
    return [(name, counts["truths"], counts["inside"]) for name, counts in covered.items() if counts["truths"]]
