"""Sources without files."""

from __future__ import annotations

from copy import deepcopy

from datamodules.mixed import MixedDataModule
from lightning_modules.multitask import MultiTaskModule
from lightning_modules.transfer.source import Source
from pipeline.prediction.predictor import Predictor


class One:
    """Opens one source, whatever it is called."""

    def __init__(self, source: Source) -> None:
        self.source, self.opened = source, 0

    def open(self, what: str) -> Source:
        self.opened += 1
        return self.source


def source_of(module: MultiTaskModule, data: MixedDataModule) -> Source:
    weights = {name: value.clone() for name, value in module.network.state_dict().items()}
    inputs = {name: spec.inputs for name, spec in data.datasets.items()}
    network, tasks = deepcopy(module.network), deepcopy(module.tasks)

    def load() -> Predictor:
        return Predictor(network, tasks, data.modalities, inputs)

    spec = {"config": {}, "learnt": data.learnt_state()}
    return Source("runs/a", "", weights, spec, load)
