"""What a station's rows are known to be.

A record does not say where its values come from, and a name can be given to anything. So rows are called the data set's only
if they are: hour by hour the values of the file that ``create_dataset.py`` wrote and labelled.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.errors import AirQualityError
from airquality.monitoring.drift import Window

UNLABELLED = "unlabelled"

logger = logging.getLogger(__name__)


class KnownRows:
    """The rows of a labelled stream file, to compare windows with; without one every row is unlabelled."""

    def __init__(self, frame: Frame | None = None) -> None:
        self._frame = frame

    @classmethod
    def of(cls, dataset_dir: Path) -> KnownRows:
        """Return the rows of the stream file in ``dataset_dir``, none if there is no file or it cannot be read."""
        path = dataset_dir / dataset.STREAM_NAME
        if not path.exists():
            return cls()
        try:
            return cls(dataset.read_stream_csv(path))
        except AirQualityError as error:
            logger.warning("rows are called unlabelled: %s", error)
            return cls()

    def source_of(self, window: Window) -> str:
        """Return ``uci`` or ``simulated`` where every row of the window is the file's, else ``unlabelled``.

        A file that is sent in a loop comes with hours moved on by its span, so hours are compared modulo that.
        """
        frame = self._frame
        if frame is None or not len(frame):
            return UNLABELLED
        at = (window.hours - int(frame.hours[0])) % len(frame)
        if np.any(frame.hours[at] - frame.hours[0] != at):  # the file has gaps
            return UNLABELLED
        same = np.array_equal(frame.values[at], window.values, equal_nan=True)
        return frame.source if same else UNLABELLED
