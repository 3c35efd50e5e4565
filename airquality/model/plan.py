"""Computes terms for many rows: each operation once for all the terms that can be computed at the same time.

A table is filled line after line: what is read, the constants, then what is made of lines that are there. One step is one
numpy operation, which costs the same for one row as for a hundred.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from airquality.model.channels import Floats
from airquality.model.past_reader import Blocks, Indices, PastReader
from airquality.model.terms import Constant, Given, Made, Operation, Term

#: Rows best computed together: their table stays in the processor's cache.
BEST_ROWS = 256


@dataclass(frozen=True, slots=True)
class _Step:
    """An operation, the lines of its operands for all its terms, ``(n_operands, n_terms)``, and those of the results."""

    operation: Operation
    operands: Indices
    results: slice

    def take(self, table: Floats) -> None:
        operands = table.take(self.operands, axis=0)
        if isinstance(self.operation, np.ufunc):
            self.operation(*operands, out=table[self.results])
        else:
            self.operation(operands, table[self.results])


class Plan:
    """How terms are computed, each the way it is declared.

    Args:
        terms: In the order of the result's columns.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        numbered = _Numbered()
        columns = [numbered.number(term) for term in terms]
        given = {number: term for number, term in enumerate(numbered.terms) if isinstance(term, Given)}
        self.reading = PastReader(given.values())
        line = {number: self.reading.line[term] for number, term in given.items()}
        constants = [number for number, term in enumerate(numbered.terms) if isinstance(term, Constant)]
        first = len(self.reading.line)
        line |= {number: first + index for index, number in enumerate(constants)}
        self._constants = slice(first, first + len(constants))
        self._values = np.array([[term.value] for term in numbered.terms if isinstance(term, Constant)]).reshape(-1, 1)
        self._steps = [*_steps(numbered, line, self._constants.stop)]
        self._n_lines = max([self._constants.stop, *(step.results.stop for step in self._steps)])
        self._columns = np.array([line[number] for number in columns], dtype=np.intp)

    @property
    def n_terms(self) -> int:
        """How many terms there are."""
        return len(self._columns)

    def compute(self, blocks: Blocks, out: Floats) -> None:
        """Compute the terms of the rows whose blocks were read into ``out``, shape ``(n_rows, n_terms)``."""
        table = np.empty((self._n_lines, len(out)))
        table[self._constants] = self._values
        self.reading.lay(blocks, table)
        for step in self._steps:
            step.take(table)
        out[...] = table.take(self._columns, axis=0).T


class _Numbered:
    """Terms by number, none twice, each after its parts."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self.parts: list[tuple[int, ...]] = []
        self._by_content: dict[Hashable, int] = {}
        self._by_identity: dict[int, int] = {}  # a term that many others are made of is looked into once

    def number(self, term: Term) -> int:
        """Return the number of the term, numbering its parts first."""
        if id(term) not in self._by_identity:
            parts = tuple(map(self.number, term.parts)) if isinstance(term, Made) else ()
            content = (term.operation, parts) if isinstance(term, Made) else term
            if content not in self._by_content:
                self._by_content[content] = len(self.terms)
                self.terms.append(term)
                self.parts.append(parts)
            self._by_identity[id(term)] = self._by_content[content]
        return self._by_identity[id(term)]


def _steps(numbered: _Numbered, line: dict[int, int], first: int) -> Iterator[_Step]:
    """Yield the steps that compute what has no line yet, and give it the lines from ``first`` on."""
    waiting: dict[tuple[Operation, int], list[int]] = {}
    for number, term in enumerate(numbered.terms):
        if isinstance(term, Made):
            waiting.setdefault((term.operation, len(term.parts)), []).append(number)
    while waiting:
        ready = {
            kind: [n for n in numbers if all(p in line for p in numbered.parts[n])] for kind, numbers in waiting.items()
        }
        # an operation that all its terms are ready for is taken first: others may become ready for theirs
        kind = max(ready, key=lambda kind: (len(ready[kind]) / len(waiting[kind]), len(ready[kind])))
        now = ready[kind]
        yield _Step(
            kind[0],
            np.array([[line[numbered.parts[n][place]] for n in now] for place in range(kind[1])], dtype=np.intp),
            slice(first, first + len(now)),
        )
        line |= {number: first + index for index, number in enumerate(now)}
        first += len(now)
        waiting[kind] = [number for number in waiting[kind] if number not in line]
        waiting = {kind: numbers for kind, numbers in waiting.items() if numbers}
