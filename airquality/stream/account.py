"""What is committed with a partition's offset: the account of its rows, and the note that ties it to state and topics."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import orjson

from airquality.ground.errors import ContractError, Refused
from airquality.incoming import OPERATION_KINDS, TRUTH_OUTCOMES
from airquality.records import DEAD_LETTER_REASONS


@dataclass
class Counts:
    """What became of the rows of a partition. The law: ``rows_in`` is the sum of all the others but ``rows_lost``.

    ``truths`` are those that came late, by what became of them, ``operations`` what operators decided, by kind.
    ``rows_lost`` were never read, or had to be read again and were gone: their loss was accepted by an operator.
    """

    rows_in: int = 0
    warmup: int = 0
    predictions: int = 0
    duplicates: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)
    rows_lost: int = 0
    truths: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Counts:
        """Return the same counts, which go on by themselves."""
        return Counts(**asdict(self))

    def add(self, other: Counts) -> None:
        """Add another partition's or batch's counts."""
        self.rows_in += other.rows_in
        self.warmup += other.warmup
        self.predictions += other.predictions
        self.duplicates += other.duplicates
        self.rows_lost += other.rows_lost
        for name in _BY_REASON:
            mine = getattr(self, name)
            for reason, count in getattr(other, name).items():
                mine[reason] = mine.get(reason, 0) + count

    def check(self) -> None:
        """Raise ``ContractError`` if a row is unaccounted for."""
        accounted = self.warmup + self.predictions + self.duplicates
        accounted += sum(sum(getattr(self, name).values()) for name in _BY_REASON)
        unheard_of = any(set(getattr(self, name)) - set(known) for name, known in _BY_REASON.items())
        if accounted != self.rows_in or unheard_of:
            raise ContractError(f"{self.rows_in} rows came in but {accounted} are accounted for: {self}")

    def summary(self) -> dict[str, Any]:
        """Return the counts under the names of ``monitoring_summary.json``."""
        return {
            "rows_in": self.rows_in,
            "warmup": self.warmup,
            "predictions_total": self.predictions,
            "dead_letters": dict(sorted(self.dead_letters.items())),
            "duplicates": self.duplicates,
            "truths": dict(sorted(self.truths.items())),
            "operations": dict(sorted(self.operations.items())),
            "rows_lost": self.rows_lost,
        }


#: The counts that are kept by reason, and the closed set of reasons of each.
_BY_REASON = {"dead_letters": DEAD_LETTER_REASONS, "truths": TRUTH_OUTCOMES, "operations": OPERATION_KINDS}


@dataclass(frozen=True, slots=True)
class Topics:
    """Which topics a group works on: the ids the broker gave them (KIP-516; None: not known) and their partition count."""

    raw: str | None = None
    pred: str | None = None
    state: str | None = None
    dlq: str | None = None
    partitions: int = 0

    def is_other(self, role: str, now: Topics) -> bool:
        """Whether the topic of this role was deleted and created anew since."""
        before, after = getattr(self, role), getattr(now, role)
        return before is not None and after is not None and before != after


@dataclass(frozen=True)
class Note:
    """What is committed with a partition's offset, and written into the headers of every snapshot of the transaction.

    Attributes:
        position: The offset it is committed with: the next raw row to read.
        counts: What became of the rows before it.
        replay_offset: From where rows must be read again to bring back the state; None where snapshots hold all of it.
        pred_offset: Where in the prediction topic the predictions of those rows begin.
        dlq_offset: Where in the dead-letter topic the dead letters of those rows begin.
        n_saved: The stations that have a snapshot.
        topics: The topics it is true of.
        era: How often an operator accepted to begin the raw log anew; offsets compare within one era only.
        pred_floor: Predictions before it came of an earlier era.
        dlq_floor: The same of dead letters.
        newest: The newest hour of the partition's stations before the row at ``replay_offset``, or ``position``.
        uncalibrated: Model versions whose predictions were judged against another model's reference; the newest eight.
    """

    position: int = 0
    counts: Counts = field(default_factory=Counts)
    replay_offset: int | None = None
    pred_offset: int = 0
    dlq_offset: int = 0
    n_saved: int = 0
    topics: Topics = field(default_factory=Topics)
    era: int = 0
    pred_floor: int = 0
    dlq_floor: int = 0
    newest: int = 0
    uncalibrated: tuple[str, ...] = ()

    @property
    def age(self) -> tuple[int, int]:
        """By which notes are ordered: the larger, the newer."""
        return self.era, self.position

    def encode(self) -> str:
        """Return the note as Kafka keeps it; some hundred bytes of the 4,096 it allows."""
        return orjson.dumps(self, option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def decode(cls, text: str | bytes) -> Self | None:
        """Return the note of :meth:`encode`; None for anything else, which others may write where ours is expected.

        Raises:
            Refused: it is another release's note: read in part, or passed over, it would be lost with the next commit.
        """
        try:
            found = orjson.loads(text)
        except ValueError:
            return None
        if not (isinstance(found, dict) and found.keys() >= _OF_A_NOTE):
            return None
        try:
            typed = {"counts": Counts(**found["counts"]), "topics": Topics(**found["topics"])}
            note = cls(**{**found, **typed, "uncalibrated": tuple(found.get("uncalibrated", ()))})
            if note._is_sound():
                return note
        except (TypeError, AttributeError):
            pass
        raise Refused(
            "what this group left in Kafka was written by another release of the consumer, whose account of the rows this "
            "one cannot read: nothing was changed. Go on with that release or a newer one; docs/operations.md (Roll back) "
            "says what else can be done"
        )

    def _is_sound(self) -> bool:
        numbers = [getattr(self, name) for name in _NUMBERS]
        numbers += [value for name, value in asdict(self.counts).items() if name not in _BY_REASON]
        numbers += [number for name in _BY_REASON for number in getattr(self.counts, name).values()]
        numbers += [self.topics.partitions]
        numbers += [] if self.replay_offset is None else [self.replay_offset]
        whole = all(type(number) is int and number >= 0 for number in numbers)
        known = all(set(getattr(self.counts, name)) <= set(reasons) for name, reasons in _BY_REASON.items())
        return whole and known and all(isinstance(version, str) for version in self.uncalibrated)


#: What every release's note has, and hardly anything else.
_OF_A_NOTE = {"position", "counts", "topics", "n_saved", "era"}
_NUMBERS = [each.name for each in fields(Note) if each.type == "int"]
