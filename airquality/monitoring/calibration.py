"""The detectors' calibration: made from history, written beside the reference, and verified before it is used.

``detectors.json`` says what was calibrated on what, and what a budget buys; ``detectors.npz`` holds the numbers.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import ContractError, UsageError
from airquality.ground.files import write_atomically
from airquality.monitoring import forward, relations, tails
from airquality.monitoring.alarms import Places
from airquality.monitoring.bank import STEP_HOURS, Bank, layout_hash, statistics_of
from airquality.monitoring.detector import Cell
from airquality.monitoring.network import NODE_COLUMNS, NODES
from airquality.monitoring.relations import Relations
from airquality.monitoring.rules import Limits, limits_of
from airquality.monitoring.suite import Suite, build
from airquality.monitoring.tails import HOURS_A_MONTH, Purchase, Tails
from airquality.monitoring.watch import Thresholds, Watch
from airquality.network.current import NETWORK
from airquality.records import hour_of_isoformat, isoformat

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DETECTORS_NAME, NUMBERS_NAME = "detectors.json", "detectors.npz"
#: Pages a month that can be asked for.
BUDGETS = (0.5, 1.0, 2.0, 4.0)
DEFAULT_BUDGET = 1.0
#: Out-of-sample history below which no budget can be resolved.
LEAST_MONTHS = 4.5
#: Thresholds older than this want a new calibration.
STALE_HOURS = 13 * 168

_VERSION = 5
_GOLDEN_HOURS = 48
_COLD = "no detectors: run python generate_reference_dataset.py"


@dataclass(frozen=True, slots=True)
class SmallestShift:
    """The least constant shift, up (positive) and down (negative), that is seen once a window of ``hours`` is full.

    ``unit`` is % of the value for sensors and CO, degC for T, and % of humidity for RH.
    """

    hours: int
    up: float
    down: float
    unit: str


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Fitted detectors, the tails their thresholds come from, what budgets buy, and the end of the history as a seed.

    ``tail`` is that of all statistical cells, ``tails_beside`` while each node in turn is known to be wrong. ``usual`` holds
    each statistical cell's median. ``first_hour`` and ``last_hour`` bound the history, inclusive;
    ``ranges`` ``(2, 13)`` its values.
    """

    suite: Suite
    tail: Tails
    tails_beside: tuple[Tails, ...]
    usual: Floats
    purchases: tuple[Purchase, ...]
    seed: Mapping[str, Any]
    data_source: str
    data_hash: str
    first_hour: int
    last_hour: int
    ranges: Floats

    @property
    def identity(self) -> str:
        """What a station's memory belongs to: its tables, the fitted numbers and the history they were fitted to."""
        fitted = _hash_of({**self.suite.relations.arrays(), **self.suite.limits.arrays()})
        return f"{layout_hash(self.suite)[:16]} {fitted[:16]} {self.data_hash[:16]}"

    @property
    def statistical(self) -> tuple[Cell, ...]:
        """The cells whose thresholds are bought."""
        return tuple(cell for cell in self.suite.cells if not cell.exact)

    def purchase(self, budget: float) -> Purchase:
        """Return what the largest calibrated budget up to ``budget`` buys; raises ``UsageError`` below the smallest."""
        within = [purchase for purchase in self.purchases if purchase.budget <= budget]
        if not within:
            raise UsageError(
                f"a budget of {budget:g} pages a month is below the smallest that history resolves, {BUDGETS[0]:g}"
            )
        return within[-1]

    def thresholds(self, budget: float = DEFAULT_BUDGET) -> Thresholds:
        """Return all cells' limits for at most ``budget`` false pages a month."""
        rate, n_exact = self.purchase(budget).rate, len(self.suite.cells) - len(self.statistical)
        exact = np.ones(n_exact)
        alone = np.concatenate([exact, tails.limits(self.statistical, self.tail, rate)])
        beside = [np.concatenate([exact, tails.limits(self.statistical, tail, rate)]) for tail in self.tails_beside]
        return Thresholds(alone, np.array(beside))

    def watch(self, budget: float = DEFAULT_BUDGET) -> Watch[Any]:
        """Return detectors at work with that budget."""
        return Watch(self.suite, self.thresholds(budget))

    def smallest_shifts(self, budget: float = DEFAULT_BUDGET) -> dict[str, list[SmallestShift]]:
        """Return the least constant shifts that are seen on a usual day, by column and window, the shortest first."""
        cells, limits = self.statistical, tails.limits(self.statistical, self.tail, self.purchase(budget).rate)
        found: dict[str, list[SmallestShift]] = {}
        for column, detector in [*((node.column, "level") for node in NODES), (NODE_COLUMNS[-1], "ratio")]:
            log = detector == "ratio" or NODES[NODE_COLUMNS.index(column)].log
            rows: dict[int, list[float]] = {}
            for cell, limit, usual in zip(cells, limits, self.usual, strict=True):
                if (cell.column, cell.detector) == (column, detector):
                    shift = float(limit - usual)
                    signed = 100 * (np.exp(cell.sign * shift) - 1) if log else cell.sign * shift
                    rows.setdefault(cell.hours, []).append(float(signed))
            unit = "%" if log else NODES[NODE_COLUMNS.index(column)].unit
            found[column] = [SmallestShift(hours, up, down, unit) for hours, (up, down) in sorted(rows.items())]
        return found


def calibrate(hours: Ints, values: Floats, data_source: str, data_hash: str) -> Calibration:
    """Fit the detectors on a history and buy their thresholds.

    Args:
        hours: ``(n,)``, consecutive.
        values: ``(n, 13)``, NaN for missing.
        data_source: As the data set says.
        data_hash: Of the history.

    Raises:
        UsageError: the history leaves fewer than 4.5 months of out-of-sample statistics.
    """
    parts = forward.stretches(hours, values) if len(hours) > forward.FIRST_HOURS else []
    months = max(len(hours) - forward.FIRST_HOURS, 0) / HOURS_A_MONTH
    if months < LEAST_MONTHS:
        raise UsageError(
            f"{months:.1f} months of out-of-sample history are too few to resolve a false-alarm budget; "
            f"{LEAST_MONTHS} are needed (history of {(forward.FIRST_HOURS + LEAST_MONTHS * HOURS_A_MONTH) / 168:.0f} weeks)"
        )
    clean = forward.statistics(parts, hours, values)
    places = Places.of(parts[0].suite.cells)
    fitted = relations.fit(hours, values)
    unlimited = build(fitted, Limits.unit())
    exact = Suite(fitted, unlimited.limits, tuple(rule for rule in unlimited.detectors if rule.cells[0].exact))
    suite = build(fitted, limits_of(statistics_of(exact, hours, values), exact.cells, values, fitted))
    return Calibration(
        suite=suite,
        tail=tails.tails(clean),
        tails_beside=tuple(tails.tails(table) for table in forward.beside(parts, hours, values)),
        usual=np.nanmedian(clean, axis=0),
        purchases=tuple(tails.buy(places, clean, BUDGETS)),
        seed=_seed(suite, hours, values),
        data_source=data_source,
        data_hash=data_hash,
        first_hour=int(hours[0]),
        last_hour=int(hours[-1]),
        ranges=np.array([np.fmin.reduce(values), np.fmax.reduce(values)]),
    )


def _seed(suite: Suite, hours: Ints, values: Floats) -> dict[str, Any]:
    """Return what a station remembers at the end of the history."""
    bank, begin = Bank(suite), max(len(hours) - 60 * 24, 0)
    for start in range(begin, len(hours), STEP_HOURS):
        step = bank.look([0], int(hours[start]), values[np.newaxis, start : start + STEP_HOURS])
        bank.keep(step, [0], step.rows.n_new)
    return bank.state(0)


# ---- files ----


def make(hours: Ints, values: Floats, data_source: str, data_hash: str, folder: Path) -> list[str]:
    """Calibrate on a history, write the files, and return the lines that say what they hold; a short history is said."""
    try:
        calibration = calibrate(hours, values, data_source, data_hash)
    except UsageError as error:
        write_refusal(str(error), folder)
        return [f"{folder / DETECTORS_NAME}: the detectors are OFF: {error}"]
    write(calibration, folder)
    return [f"{folder / DETECTORS_NAME}:", *summary(calibration)]


def write(calibration: Calibration, folder: Path) -> None:
    """Write ``detectors.npz`` and, last, ``detectors.json``."""
    numbers = _numbers(calibration)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **numbers)
    document = {
        "version": _VERSION,
        "calibrated": True,
        "data_source": calibration.data_source,
        "data_hash": calibration.data_hash,
        "relations_hash": _hash_of(calibration.suite.relations.arrays()),
        "code_hash": code_hash(),
        "numbers_sha256": hashlib.sha256(content.getvalue()).hexdigest(),
        "first_hour": isoformat(calibration.first_hour),
        "last_hour": isoformat(calibration.last_hour),
        "months": calibration.tail.months,
        "budgets": [_described(calibration, purchase) for purchase in calibration.purchases],
        "rule_limits": {name: table.tolist() for name, table in calibration.suite.limits.arrays().items()},
        "thresholds": _thresholds(calibration),
        "smallest_shifts": {
            column: [astuple(shift) for shift in shifts] for column, shifts in calibration.smallest_shifts().items()
        },
    }
    write_atomically(folder / NUMBERS_NAME, content.getvalue())
    write_atomically(folder / DETECTORS_NAME, (json.dumps(document, indent=1) + "\n").encode())


def write_refusal(reason: str, folder: Path) -> None:
    """Write a ``detectors.json`` that says why there are no detectors."""
    (folder / NUMBERS_NAME).unlink(missing_ok=True)
    document = {"version": _VERSION, "calibrated": False, "reason": reason}
    write_atomically(folder / DETECTORS_NAME, (json.dumps(document, indent=1) + "\n").encode())


def load(folder: Path) -> Calibration:
    """Return the calibration in ``folder``, verified: hashes, thresholds, and 48 golden rows bit for bit.

    Raises:
        UsageError: there is none, or it says why there are no detectors.
        ContractError: it is not what was written, or this machine computes other numbers from it.
    """
    path = folder / DETECTORS_NAME
    try:
        document = json.loads(path.read_bytes())
        if not document["calibrated"]:
            raise UsageError(f"{path}: the detectors are off: {document['reason']}")
        version, content = document["version"], (folder / NUMBERS_NAME).read_bytes()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{path} is absent or cannot be read ({error}); {_COLD}") from error
    if version != _VERSION:
        raise ContractError(f"{path} is of version {version}, and this program reads version {_VERSION}; {_COLD}")
    if hashlib.sha256(content).hexdigest() != document.get("numbers_sha256"):
        raise ContractError(f"{folder / NUMBERS_NAME} does not belong to {path.name}; {_COLD}")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        numbers = {name: archive[name] for name in archive.files}
    try:
        calibration = _restored(document, numbers)
        _verify(calibration, document, numbers, path)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"{path} is not what was written ({type(error).__name__}: {error}); {_COLD}") from error
    return calibration


def _numbers(calibration: Calibration) -> dict[str, NDArray[Any]]:
    numbers: dict[str, NDArray[Any]] = {}
    for name, table in calibration.suite.relations.arrays().items():
        numbers[f"relations.{name}"] = table
    for name, table in calibration.suite.limits.arrays().items():
        numbers[f"limits.{name}"] = table
    for name, value in calibration.seed.items():
        numbers[f"seed.{name}"] = np.asarray(value)
    for index, tail in enumerate((calibration.tail, *calibration.tails_beside)):
        numbers[f"tail{index}.peaks"], numbers[f"tail{index}.sd"] = tail.peaks, tail.sd
        numbers[f"tail{index}.months"] = np.array(tail.months)
    numbers["usual"], numbers["ranges"] = calibration.usual, calibration.ranges
    numbers["golden"] = _golden(calibration.suite, calibration.seed)
    return numbers


def _restored(document: Mapping[str, Any], numbers: Mapping[str, NDArray[Any]]) -> Calibration:
    def part(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): table for name, table in numbers.items() if name.startswith(prefix)}

    kept = [
        Tails(numbers[f"tail{index}.peaks"], numbers[f"tail{index}.sd"], float(numbers[f"tail{index}.months"]))
        for index in range(1 + len(NODE_COLUMNS))
    ]
    seed = part("seed.")
    return Calibration(
        suite=build(Relations(**part("relations.")), Limits(**part("limits."))),
        tail=kept[0],
        tails_beside=tuple(kept[1:]),
        usual=numbers["usual"],
        purchases=tuple(
            Purchase(found["budget"], found["rate"], tuple(found["held_out"]), tuple(found["nested"]))
            for found in document["budgets"]
        ),
        seed={**seed, "hour": int(seed["hour"])},
        data_source=document["data_source"],
        data_hash=document["data_hash"],
        first_hour=hour_of_isoformat(document["first_hour"]),
        last_hour=hour_of_isoformat(document["last_hour"]),
        ranges=numbers["ranges"],
    )


def _verify(calibration: Calibration, document: Mapping[str, Any], numbers: Mapping[str, NDArray[Any]], path: Path) -> None:
    if _hash_of(calibration.suite.relations.arrays()) != document["relations_hash"]:
        raise ContractError(f"{path}: its relations are not those it was written with; {_COLD}")
    if _thresholds(calibration) != document["thresholds"]:
        raise ContractError(f"{path}: its thresholds do not follow from its tails; {_COLD}")
    if not np.array_equal(_golden(calibration.suite, calibration.seed), numbers["golden"], equal_nan=True):
        raise ContractError(f"{path}: this program, on this machine, makes other statistics of the golden rows; {_COLD}")


def _golden(suite: Suite, seed: Mapping[str, Any]) -> Floats:
    """Return the statistics of 48 rows that repeat the seed's own last two in turn, each time a little larger."""
    bank = Bank(suite)
    bank.restore(0, seed)
    growth = 1.0 + 0.003 * np.arange(_GOLDEN_HOURS)
    usual = np.nan_to_num(np.asarray(seed["rows"]), nan=100.0)
    rows = np.tile(usual, (_GOLDEN_HOURS // len(usual), 1)) * growth[:, np.newaxis]
    return np.asarray(bank.look([0], bank.hour(0) + 1, rows[np.newaxis]).statistics[0])


def _thresholds(calibration: Calibration) -> dict[str, dict[str, float]]:
    cells = calibration.statistical
    return {
        f"{purchase.budget:g}": {
            cell.name: float(limit)
            for cell, limit in zip(cells, tails.limits(cells, calibration.tail, purchase.rate), strict=True)
        }
        for purchase in calibration.purchases
    }


def _described(calibration: Calibration, purchase: Purchase) -> dict[str, Any]:
    months = calibration.tail.months
    return {
        **asdict(purchase),
        "held_out_per_month": sum(purchase.held_out) / months,
        "nested_per_month": sum(purchase.nested) / months,
    }


def _hash_of(arrays: Mapping[str, Floats]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name], dtype="<f8").tobytes())
    return digest.hexdigest()


def code_hash() -> str:
    """Return the SHA-256 of the detectors' source and of the network they were made for."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources) + repr(NETWORK).encode()).hexdigest()


def summary(calibration: Calibration) -> list[str]:
    """Return the lines that say what was bought and what would be seen."""
    months = calibration.tail.months
    lines = [
        f"detectors: {months:.2f} months out of sample; false pages a month, held out and nested (rate chosen blind too):"
    ]
    for purchase in calibration.purchases:
        held_out, nested = sum(purchase.held_out) / months, sum(purchase.nested) / months
        lines.append(f"  budget {purchase.budget:3g}   held out {held_out:.2f} {purchase.held_out}   nested {nested:.2f}")
    lines.append(f"smallest constant shift that is seen, budget {DEFAULT_BUDGET:g}:")
    for column, shifts in calibration.smallest_shifts().items():
        shown = (f"{shift.hours} h {shift.up:+.3g}/{shift.down:+.3g} {shift.unit}" for shift in shifts)
        lines.append(f"  {column:14}" + "   ".join(shown))
    return lines
