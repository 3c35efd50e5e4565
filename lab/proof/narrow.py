"""A network with a mistake in it: no temperature of this planet's cities lies within the limits it declares."""

from dataclasses import replace

from airquality.network.uci_360 import UCI_360

#: The column whose limits are wrong, and its wrong limits in degrees Celsius.
COLUMN, LIMITS = UCI_360.of_role("weather")[0].name, (-50.0, -40.0)
NARROW = replace(
    UCI_360, columns=tuple(replace(column, limits=LIMITS) if column.name == COLUMN else column for column in UCI_360.columns)
)
