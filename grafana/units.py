"""What Grafana calls the units that a network's target may have."""

from __future__ import annotations

_UNITS = {"mg/m³": "conmgm3", "µg/m³": "conμgm3", "ng/m³": "conngm3", "ppb": "conppb", "ppm": "conppm", "°C": "celsius"}


def panel_unit(unit: str) -> str:
    """Return Grafana's name of a unit, or the unit as a suffix.

    >>> panel_unit("mg/m³"), panel_unit("Bq/m³")
    ('conmgm3', 'suffix: Bq/m³')
    """
    return _UNITS.get(unit, f"suffix: {unit}")
