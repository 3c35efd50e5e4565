"""The process that serves: its models, what it has room for, and what it exposes. Without a transport."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from airquality.ground.settings import Settings
from airquality.metrics import expose_process
from airquality.serving.readings import NewestFeatures
from airquality.serving.served import ServedModel
from airquality.serving.slots import SLOTS, Slot
from airquality.serving.uploads import Uploads


class Service:
    """What is served, and the bodies that are being received.

    Attributes:
        models: The served models by the label of their slot.
        registry: The metrics of all models and of the process.
    """

    def __init__(self, settings: Settings, newest_features: NewestFeatures, slots: Sequence[Slot] = SLOTS) -> None:
        self.models = {slot.label: ServedModel(slot, settings, newest_features) for slot in slots}
        self.uploads = Uploads()
        self.registry = CollectorRegistry()
        self.registry.register(_OfModels(self.models.values()))
        expose_process(self.registry)


class _OfModels(Collector):
    """The metrics of several models, each family once; a series of a labelled slot has its label as ``model``."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._models = tuple(models)

    def collect(self) -> Iterator[Metric]:
        """Yield each family with the series of all models."""
        families: dict[str, Metric] = {}
        for model in self._models:
            for family in model.registry.collect():
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known.samples += [_labelled(sample, model.slot.label) for sample in family.samples]
        yield from families.values()


def _labelled(sample: Sample, label: str) -> Sample:
    return sample._replace(labels={**sample.labels, "model": label}) if label else sample
