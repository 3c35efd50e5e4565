"""What detectors make of the declared network: the channels they compare, the nodes they judge, and who predicts whom.

A *channel* is a device column on the scale it is compared on; a
*node* is a channel that is judged by the others; a *view* of a node is one choice of the channels it is predicted from.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.network.current import NETWORK
from airquality.network.declaration import Column, View
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, TARGET

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Channel:
    """A column as detectors compare it: its logarithm above ``floor`` if ``log``, else its value."""

    column: str
    unit: str
    log: bool = True
    floor: float = 1.0

    @property
    def index(self) -> int:
        """The column's place in ``RAW_COLUMNS``."""
        return RAW_COLUMNS.index(self.column)


def _channel(column: Column) -> Channel:
    floor = column.floor if column.detector_floor is None else column.detector_floor
    return Channel(column.name, column.ascii_unit, log=floor is not None, floor=floor or 1.0)


CHANNELS = tuple(map(_channel, NETWORK.channels))
#: Gas sensors, then weather; what the device computes is judged by its identity alone.
NODES = tuple(channel for channel in CHANNELS if channel.column not in NETWORK.computed)
N_CHANNELS, N_NODES = len(CHANNELS), len(NODES)
N_GASES = sum(NETWORK[node.column].role == "sensor" for node in NODES)
#: The analyser of the target, whose ratio to the sensors is judged as a node beside the others.
ANALYSER = _channel(NETWORK.target)
#: Analysers that some of its predictions use.
COMPANIONS = tuple(map(_channel, NETWORK.of_role("analyser")))
ANALYSER_NODE = N_NODES
#: Everything a statistical alarm can name, by node.
NODE_COLUMNS = (*(node.column for node in NODES), ANALYSER.column)
#: Columns the exact rules watch: all the device's own, and the target.
RULE_COLUMNS = (*DEVICE_COLUMNS, TARGET)
#: What an alarm about a computed column names, and the columns of which one is wrong then.
GROUPS = {twin.group: (*twin.sources, twin.column) for twin in NETWORK.twins}
UNITS = {
    **{column.name: column.ascii_unit for column in NETWORK.columns},
    **{twin.group: NETWORK[twin.column].ascii_unit for twin in NETWORK.twins},
}
#: Channels that are computed, and the nodes they are computed from: where one is wrong, so may those be.
_SOURCES = {
    twin.column: frozenset(index for index, node in enumerate(NODES) if node.column in twin.sources)
    for twin in NETWORK.twins
    if twin.column in {channel.column for channel in CHANNELS}
}
_INDEX = {channel.column: index for index, channel in enumerate(CHANNELS)}


def suspects(wrong: frozenset[str]) -> list[int]:
    """Return the nodes that may be wrong while the columns ``wrong`` are named by alarms."""
    named = {index for index, column in enumerate(NODE_COLUMNS) if column in wrong}
    return sorted(named.union(*(_SOURCES[column] for column in wrong if column in _SOURCES)))


def _computed_from(node: int) -> frozenset[int]:
    return frozenset(_INDEX[column] for column, sources in _SOURCES.items() if node in sources)


def _views(node: int) -> tuple[frozenset[int], ...]:
    """Return what each of the node's views leaves out, beside the node and what is computed from it."""
    others = (other for other in range(N_NODES) if other != node)
    return (frozenset(), *(frozenset({other}) | _computed_from(other) for other in others))


def _predictors(node: int) -> list[frozenset[int]]:
    base = frozenset(range(N_CHANNELS)) - {node} - _computed_from(node)
    return [base - left_out for left_out in _views(node)]


VIEWS = N_NODES
#: ``(node, view, channel)``: whether the view predicts the node from the channel.
PREDICTS: Bools = np.array(
    [[[channel in used for channel in range(N_CHANNELS)] for used in _predictors(node)] for node in range(N_NODES)]
)


def _uses(view: View) -> list[bool]:
    """Return which channels and companions one prediction of the analyser uses."""
    if view.only:
        return [channel.column in view.only for channel in (*CHANNELS, *COMPANIONS)]
    return [channel.column not in view.without for channel in CHANNELS] + [False] * len(COMPANIONS)


#: What each prediction of the analyser uses: channels, then companions.
ANALYSER_PREDICTS: Bools = np.array([_uses(view) for view in NETWORK.views])
ANALYSER_VIEWS = len(ANALYSER_PREDICTS)


@functools.lru_cache(maxsize=256)
def avoiding(wrong: frozenset[str]) -> Bools:
    """Return ``(nodes, views)``: which views do without the columns ``wrong``, the node itself aside."""
    used = PREDICTS & _channels_of(wrong)
    used[np.arange(N_NODES), :, np.arange(N_NODES)] = False
    return np.asarray(~used.any(axis=2))


def predicts_without(wrong: frozenset[str]) -> Bools:
    """Return what each view predicts from, ``(nodes, views, channels)``, while the columns ``wrong`` are known to be."""
    return np.asarray(PREDICTS & ~_channels_of(wrong))


def _channels_of(columns: frozenset[str]) -> Bools:
    return np.array([channel.column in columns for channel in CHANNELS])
