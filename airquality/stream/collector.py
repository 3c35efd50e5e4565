"""What Python's cyclic garbage collector is spared: the memory of a fleet, which stays for as long as the process.

A full collection looks at every object that can hold others. Of a thousand stations these are 360,000 and a sixth of a
second, during which no row goes on; and it comes again and again while stations are brought back, as each new one is news to
it. What stations hold is let go of by its reference counts, so there is nothing to find.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from airquality.stream import heap

#: More objects than a batch of rows makes, so that none begins a collection: nearly all of them are gone with the batch.
NEW_OBJECTS = 50_000


@contextmanager
def restoring() -> Iterator[None]:
    """Collect nothing while stations are brought back, and look at nothing again that is there at the end.

    What a worker before this one left behind, which refers to itself, is freed at the beginning; the memory of what was read
    and let go of meanwhile is given back at the end.
    """
    if gc.get_freeze_count():
        let_go()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS)
        gc.enable()
        heap.give_back()


def let_go() -> None:
    """Look at everything once, now that stations were let go of: what of them refers to itself is freed here."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    heap.give_back()
