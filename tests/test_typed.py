from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest

from airquality.ground.typed import immutable, plain, restored


@dataclass(frozen=True)
class Leaf:
    kind: Literal["a", "b"]
    size: float
    hour: int | None = None


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...]
    by_name: Mapping[str, Mapping[str, int]]
    newest: Leaf | None = None
    extra: Mapping[str, Leaf] = field(default_factory=dict)


TREE = Tree((Leaf("a", 1.5, 3), Leaf("b", -0.0)), {"x": {"y": 1}}, Leaf("b", 2.0), {"z": Leaf("a", 3.0)})


def test_restored_gives_back_what_plain_wrote() -> None:
    assert restored(Tree, plain(TREE)) == TREE


def test_restored_nan_in_a_float_field_is_nan_again() -> None:
    assert plain(Leaf("a", math.nan)) == {"kind": "a", "size": None, "hour": None}
    assert math.isnan(restored(Leaf, plain(Leaf("a", math.nan))).size)


def test_restored_field_added_since_takes_its_default() -> None:
    document = {name: value for name, value in plain(TREE).items() if name != "extra"}
    assert restored(Tree, document).extra == {}


@pytest.mark.parametrize("document", [{}, {"leaves": [{}], "by_name": {}}, {"leaves": 3, "by_name": {}}])
def test_restored_foreign_document_raises(document: Mapping[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        restored(Tree, document)


def test_immutable_array_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        immutable(np.zeros(2))[0] = 1.0
