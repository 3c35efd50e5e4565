"""Whether large arrays are mapped by themselves, as the C library counts them."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

#: A process of its own: what others have freed before would hold the array, and nothing would have to be mapped.
SCRIPT = """
import ctypes
import sys
import numpy as np
from airquality.stream import heap

class Counted(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

def mapped():
    count = ctypes.CDLL(None).mallinfo2
    count.restype = Counted
    return count().hblks

if "limited" in sys.argv:
    heap.map_large_arrays()
np.ones(24 << 20, dtype=np.uint8)  # freed at once, which raises the limit where it may be raised
before = mapped()
array = np.ones(20 << 20, dtype=np.uint8)
print(mapped() - before)
del array
print(mapped() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="no GNU C library")
@pytest.mark.parametrize(("limit", "counts"), [("limited", ["1", "0"]), ("as it comes", ["0", "0"])])
def test_large_array_after_a_larger_one_was_freed_is_mapped_where_the_limit_is_set(limit: str, counts: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, limit], capture_output=True, text=True, check=True)
    assert done.stdout.split() == counts
