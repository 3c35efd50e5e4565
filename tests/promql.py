"""Which metrics a PromQL expression speaks of, near enough for the expressions of this project."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set

_KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"}


def metric_names(expression: str) -> set[str]:
    """Return the names in ``expression`` that are neither functions, keywords, labels, numbers nor durations."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"(?<![\w.:])([a-zA-Z_:][\w:]*)\b(?!\s*\()", bare)
    return set(words) - _KEYWORDS


#: What Prometheus adds to every series it scrapes, and ours to those of a further model (``airquality/serving/slots.py``).
_ADDED = {"job", "instance", "model"}


def unmatched(expression: str, known: Mapping[str, Mapping[str, Set[str]]]) -> Iterator[str]:
    """Yield the selectors in ``expression`` that match no series of ``known``: by name, the values of each label.

    Names that are not known, and values that a dashboard fills in, are let pass.
    """
    for name, selector in re.findall(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}", expression):
        for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', selector):
            if name not in known or label in _ADDED:
                continue
            values = known[name].get(label)
            if values is None:
                yield f"{name} has no label {label}"
            elif (
                operator in ("=", "=~") and "$" not in value and not any(_matches(operator, value, each) for each in values)
            ):
                yield f"{name} has no {label} {value}"


def _matches(operator: str, wanted: str, value: str) -> bool:
    if operator.startswith("!") or "$" in wanted:
        return True
    return value == wanted if operator == "=" else re.fullmatch(wanted, value) is not None


def grouped(expression: str, known: Mapping[str, Mapping[str, Set[str]]]) -> Iterator[str]:
    """Yield the labels that ``expression`` groups or joins by and none of its series has."""
    labels = {label for name in metric_names(expression) for label in known.get(name, {})} | _ADDED
    for named in re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", expression):
        yield from (label for label in map(str.strip, named.split(",")) if label and label not in labels)
