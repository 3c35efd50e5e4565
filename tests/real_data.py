"""The real data set, where a copy is at hand: in this checkout's dataset folder, or in one beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from airquality.data.uci_file import UCI_NAME

_ROOT = Path(__file__).resolve().parent.parent
_PLACES = (_ROOT / "dataset" / UCI_NAME, *sorted(_ROOT.parent.glob(f"*/dataset/{UCI_NAME}")))
#: The file; None where there is none.
FILE = next((path for path in _PLACES if path.exists()), None)
#: The folder it is in.
REAL = FILE and FILE.parent
needs_real_data = pytest.mark.skipif(FILE is None, reason="the real data set is not at hand")
