"""The one list of served models, a line each. Routes, metrics, readiness and pages loop over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airquality.ground.settings import Settings
from airquality.model.rows import MAX_ROWS


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one model is served, and which one of the registry it is.

    Attributes:
        label: Part of its paths (``/models/{label}/predict``) and the label ``model`` of its metrics; empty for the model
            that has neither: ``/predict``, and the metrics as everybody knows them.
        model_name: The registered name; None as the settings say.
        model_alias: The alias that is followed; None as the settings say.
        max_rows: Rows of one request, at most.
    """

    label: str = ""
    model_name: str | None = None
    model_alias: str | None = None
    max_rows: int = MAX_ROWS

    @property
    def prefix(self) -> str:
        """What its paths begin with."""
        return f"/models/{self.label}" if self.label else ""

    def settings(self, settings: Settings) -> Settings:
        """Return the settings under which the registry is asked for this model."""
        chosen = {"model_name": self.model_name, "model_alias": self.model_alias}
        return settings.model_copy(update={name: value for name, value in chosen.items() if value is not None})


#: A line each; the first is the one that the consumer asks.
SLOTS: Sequence[Slot] = (Slot(),)
