"""What detectors know of one kind of station: its channels, the nodes they judge, and which columns belong together.

Nothing else in the detectors knows a column's name. A *channel* is a device column on the scale it is compared on; a
*node* is a channel that is judged by the others; a *view* of a node is one choice of the channels it is predicted from.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


CHANNELS = (
    Channel("PT08.S1(CO)", "ohm"),
    Channel("PT08.S2(NMHC)", "ohm"),
    Channel("PT08.S3(NOx)", "ohm"),
    Channel("PT08.S4(NO2)", "ohm"),
    Channel("PT08.S5(O3)", "ohm"),
    Channel("T", "degC", log=False),
    Channel("RH", "%", log=False),
    Channel("AH", "g/m3", floor=0.01),
)
#: Gas sensors, temperature and humidity; AH, computed by the device from T and RH, is judged by its identity alone.
NODES = CHANNELS[:7]
N_CHANNELS, N_NODES = len(CHANNELS), len(NODES)
#: The analyser whose ratio to the sensors is judged, as a node beside the seven; its floor is its resolution.
ANALYSER = Channel(TARGET, "mg/m3", floor=0.1)
#: Analysers that one of its predictions uses.
COMPANIONS = (Channel("NOx(GT)", "ppb"), Channel("NO2(GT)", "ug/m3"))
ANALYSER_NODE = N_NODES
#: Everything a statistical alarm can name, by node.
NODE_COLUMNS = (*(node.column for node in NODES), ANALYSER.column)
#: Columns the exact rules watch: all the device's own, and CO(GT).
RULE_COLUMNS = (*DEVICE_COLUMNS, TARGET)
#: A computed column and the columns it is computed from: where they disagree, one of the group is wrong.
IDENTITIES = {"C6H6(GT)": ("PT08.S2(NMHC)",), "AH": ("T", "RH")}
#: What an identity alarm names.
GROUPS = {"PT08.S2(NMHC)/C6H6(GT)": ("PT08.S2(NMHC)", "C6H6(GT)"), "T/RH/AH": ("T", "RH", "AH")}
IDENTITY_GROUPS = dict(zip(IDENTITIES, GROUPS, strict=True))
UNITS = {
    **{channel.column: channel.unit for channel in (*CHANNELS, ANALYSER, *COMPANIONS)},
    "C6H6(GT)": "ug/m3",
    "NMHC(GT)": "ug/m3",
    "PT08.S2(NMHC)/C6H6(GT)": "ug/m3",
    "T/RH/AH": "g/m3",
}

_GAS, _T, _RH, _AH = frozenset(range(5)), 5, 6, 7


def _views(node: int) -> tuple[frozenset[int], ...]:
    """Return what each of the node's seven views leaves out, beside the node and what is computed from it."""
    if node in _GAS:
        return (
            frozenset(),
            *(frozenset({gas}) for gas in sorted(_GAS - {node})),
            frozenset({_T, _AH}),
            frozenset({_RH, _AH}),
        )
    other = _RH if node == _T else _T
    return (frozenset(), *(frozenset({gas}) for gas in sorted(_GAS)), frozenset({other}))


def _predictors(node: int) -> list[frozenset[int]]:
    base = frozenset(range(N_CHANNELS)) - {node} - (frozenset() if node in _GAS else frozenset({_AH}))
    return [base - left_out for left_out in _views(node)]


VIEWS = 7
#: ``(node, view, channel)``: whether the view predicts the node from the channel.
PREDICTS: Bools = np.array(
    [[[channel in used for channel in range(N_CHANNELS)] for used in _predictors(node)] for node in range(N_NODES)]
)
#: What each prediction of the analyser uses: channels, then companions.
ANALYSER_PREDICTS: Bools = np.array(
    [[channel != left_out for channel in range(N_CHANNELS)] + [False, False] for left_out in (-1, 0, 1, 2, 4)]
    + [[channel in (0, 1) for channel in range(N_CHANNELS)] + [True, True]]
)
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
