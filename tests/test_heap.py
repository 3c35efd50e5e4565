"""Whether large arrays are mapped by themselves, as the C library counts them."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from airquality.stream import heap

_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class Counted(ctypes.Structure):
    """What ``mallinfo2`` of the GNU C library says."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]


def mapped() -> int:
    count = ctypes.CDLL(None).mallinfo2
    count.restype = Counted
    return int(count().hblks)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="no GNU C library")
def test_large_arrays_are_mapped_after_larger_ones_were_freed() -> None:
    heap.map_large_arrays()
    np.ones(24 << 20, dtype=np.uint8)  # freed at once, which would raise the limit
    before = mapped()
    array = np.ones(20 << 20, dtype=np.uint8)  # more than the heap has to spare
    assert mapped() == before + 1
    del array
    assert mapped() == before
