"""The lab's results as a table, a CSV, a plot and a page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from airquality.ground.files import write_atomically
from lab.faultlab.faults import COLUMNS, KINDS, SOURCES
from lab.faultlab.scoring import Cell, Name, Outcome, share, table

DETECTORS = "this project's detectors"
_PAGE_HOURS, _MONTH_HOURS = 72, 730.5
_GAS = ("PT08.S1(CO)", "PT08.S2(NMHC)", "PT08.S4(NO2)", "PT08.S5(O3)")
_NODES = (*_GAS, "PT08.S3(NOx)", "T", "RH")


@dataclass(frozen=True, slots=True)
class Score:
    """One method: what it made of every fault, and what it named in ``n_hours`` without one."""

    method: str
    outcomes: Sequence[Outcome]
    clean: Sequence[Name]
    n_hours: int

    @property
    def clean_pages(self) -> int:
        """Columns named that were not named in the 72 h before."""
        last: dict[str, int] = {}
        pages = 0
        for name in sorted(self.clean, key=lambda name: name.at):
            pages += name.at - last.get(name.column, -_PAGE_HOURS - 1) > _PAGE_HOURS
            last[name.column] = name.at
        return pages

    @property
    def nodes(self) -> list[Outcome]:
        """Faults of sensors, T and RH whose computed columns follow."""
        return [o for o in self.outcomes if o.fault.column in _NODES and o.fault.follows == (o.fault.column in SOURCES)]


def summary(score: Score) -> dict[str, str]:
    """Return a method's figures in the field's words."""
    nodes = score.nodes
    known = [outcome for outcome in nodes if outcome.first]
    months = score.n_hours / _MONTH_HOURS
    delays = sorted(outcome.named for outcome in nodes)
    gas = [outcome for outcome in nodes if outcome.fault.column in _GAS]
    pages = score.clean_pages
    right, exact = share(known, lambda o: o.first_right), share(known, lambda o: o.first_exact)
    days = score.n_hours / 24
    return {
        "method": score.method,
        "false pages a month, clean test": f"{pages / months:.2f} ({pages})",
        "mean time between false alarms": f"{days / pages:.0f} d" if pages else f"> {days:.0f} d",
        "named within 14 d": f"{share(nodes, _named):.1%} of {len(nodes)}",
        "missed detection rate": f"{1 - share(nodes, _named):.1%}",
        "named, not by chance": f"{share(nodes, lambda o: _named(o) and not o.chance):.1%}",
        "S1, S2, S4, S5": f"{share(gas, _named):.1%} of {len(gas)}",
        "first name right": f"{right:.1%} ({exact:.1%} to the column) of {len(known)}" if known else "-",
        "detection delay, median": _hours(delays[len(delays) // 2]) if delays else "-",
    }


def _named(outcome: Outcome) -> bool:
    return outcome.named < math.inf


def _hours(delay: float) -> str:
    return "-" if math.isinf(delay) else f"{delay:.0f}"


def grid(outcomes: Sequence[Outcome], follows: bool) -> list[list[str]]:
    """Return a table of kind by column: named of all, median / 11th-of-12 delay in hours."""
    chosen = [o for o in outcomes if o.fault.follows == follows or (follows and o.fault.column not in SOURCES)]
    if follows:
        chosen = [o for o in chosen if o.fault.column in _NODES]
    cells = table(chosen, lambda o: (o.fault.kind, o.fault.column))
    columns = [column for column in COLUMNS if any(place[1] == column for place in cells)]
    chance = {
        column: sum(o.chance for o in chosen if o.fault.column == column and o.fault.kind == "stuck") for column in columns
    }
    rows = [["", *columns]]
    rows += [
        [kind, *(_cell(cells.get((kind, column))) for column in columns)]
        for kind in KINDS
        if any(k == kind for k, _ in cells)
    ]
    return [*rows, ["named without a fault", *(str(chance[column]) for column in columns)]]


def _cell(cell: Cell | None) -> str:
    return "" if cell is None else f"{cell.named} {_hours(cell.median)}/{_hours(cell.late)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first the header, as a markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def _html(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    return f"<table><tr>{head}</tr>{body}</table>"


def sections(scores: Sequence[Score], facts: Sequence[str]) -> list[tuple[str, list[list[str]] | list[str]]]:
    """Return the scoreboard as titled tables and lists."""
    summaries = [summary(score) for score in scores]
    ours = scores[0].outcomes
    return [
        ("Methods side by side", [list(summaries[0]), *([*found.values()] for found in summaries)]),
        ("How this was made", list(facts)),
        (
            "The detectors: named of the onsets, median / 11th-of-12 delay in hours; computed columns follow the fault",
            grid(ours, follows=True),
        ),
        ("The same, only the one column faulty, what is computed from it untouched", grid(ours, follows=False)),
    ]


def write(scores: Sequence[Score], facts: Sequence[str], folder: Path, title: str) -> list[Path]:
    """Write ``scoreboard.md``, ``scores.csv``, ``delays.png`` and ``index.html`` into ``folder``."""
    parts = sections(scores, facts)
    text, html = [f"# {title}", ""], [f"<h1>{escape(title)}</h1>"]
    for name, rows in parts:
        is_table = isinstance(rows[0], list)
        text += [f"## {name}", "", markdown(rows) if is_table else "\n".join(f"- {row}" for row in rows), ""]
        items = "".join(f"<li>{escape(str(row))}</li>" for row in rows)
        html += [f"<h2>{escape(name)}</h2>", _html(rows) if is_table else f"<ul>{items}</ul>"]
    text += ["![share named by detection delay](delays.png)", ""]
    html.append('<h2>Share named by detection delay</h2><img src="delays.png" alt="share of faults named by delay">')
    files = {
        "scoreboard.md": "\n".join(text).encode(),
        "scores.csv": _csv(scores).encode(),
        "delays.png": _plot(scores),
        "index.html": _page(title, html).encode(),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def _page(title: str, body: Sequence[str]) -> str:
    style = (
        "body{font:15px system-ui;margin:2em}table{border-collapse:collapse;display:block;overflow-x:auto}"
        "td,th{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:left;white-space:nowrap}img{max-width:100%}"
    )
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{style}</style>"
    return f"<!doctype html><html lang=en>{head}{''.join(body)}</html>\n"


def _csv(scores: Sequence[Score]) -> str:
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(
        ("method", "kind", "column", "computed_follows", "onset_row", "named_h", "any_h", "first", "first_right", "chance")
    )
    for score in scores:
        for o in score.outcomes:
            row = (o.fault.kind, o.fault.column, int(o.fault.follows), o.fault.onset, _hours(o.named), _hours(o.any_alarm))
            lines.writerow((score.method, *row, o.first, int(o.first_right), int(o.chance)))
    return out.getvalue()


def _plot(scores: Sequence[Score]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for score in scores:
        delays = sorted(math.inf if o.chance else o.named for o in score.nodes)
        shares = [(index + 1) / len(delays) for index in range(len(delays))]
        known = [(max(delay, 0.5), part) for delay, part in zip(delays, shares, strict=True) if delay < math.inf]
        if known:
            pages = score.clean_pages / score.n_hours * _MONTH_HOURS
            axes.step(*zip(*known, strict=True), where="post", label=f"{score.method} ({pages:.1f} false pages a month)")
        else:
            axes.plot([], [], label=f"{score.method}: none")
    axes.set(
        xscale="log",
        xlabel="hours since the fault began",
        ylabel="share of faults named, and not named without the fault",
        ylim=(0, 1),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()
