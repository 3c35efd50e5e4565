"""Where the C library puts large arrays: the memory of a fleet grows by arrays that are copied into larger ones.

The GNU C library begins by mapping every block from 128 KB on by itself, and gives it back whole. Each block that is freed
raises that limit, up to 32 MB: from then on arrays lie in the heap, and those that were copied leave holes between what
stations hold, a tenth of a fleet's memory. So the limit is set once.
"""

from __future__ import annotations

import ctypes

#: Larger than what a batch of rows makes and lets go of again, smaller than what a thousand stations share.
MAPPED_BYTES = 1024 * 1024
#: So much may be free at the heap's end before it is given back: more than what a batch of a thousand stations makes, which
#: would otherwise be fetched from the system anew for each batch.
SPARE_BYTES = 64 * 1024 * 1024
#: The names of both in ``malloc.h``.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def map_large_arrays() -> None:
    """Let large arrays be mapped from now on, where the C library can be told so; elsewhere nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, SPARE_BYTES)


def give_back() -> None:
    """Give what is free between what is held back to the system, where the C library can be told so.

    By itself it gives back what is free at the heap's end. After a thousand stations were brought back, the pages that their
    snapshots had lain in would stay: 40 KB of each.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
