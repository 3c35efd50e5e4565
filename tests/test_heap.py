"""Whether large arrays are mapped by themselves, as the C library counts them, and what is freed is given back."""

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


#: Reads snapshots, and keeps something small of each behind it, as stations do.
RESTORING = """
from pathlib import Path
import sys
from airquality.stream import collector, heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

heap.map_large_arrays()
before = resident()
with collector.restoring():
    read = [bytes([index % 256]) * 40_000 for index in range(1_000)]
    held = []
    while read:
        held.append(bytes(read.pop()[:1_000]))
    del read
print((resident() - before) // 1_000_000)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no GNU C library")
def test_restoring_thousand_snapshots_leaves_what_is_held_of_them() -> None:
    done = subprocess.run([sys.executable, "-c", RESTORING], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10  # MB, of 40 that were read
