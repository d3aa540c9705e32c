"""Features of frozen encoders: computed once, kept on disk, and read in place of the inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from inspect import getsourcefile
from pathlib import Path
from typing import Any, overload

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from datamodules.arrays import FileArrays
from datamodules.feature_table import FeatureTable
from datamodules.features import Features
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.encoders.base import Encoder
from lightning_modules.feature_extraction import BATCH_SIZE, REFUSED, FeatureExtraction
from lightning_modules.network import MultiTaskNetwork
from pollinate.version import VERSION

CACHE_KIND, CACHE_FORMAT = "features", 1  # FORMAT is raised when older entries can't be read
ROUNDING = {True: 5e-2, False: 1e-3}  # of 16 bits, of more: share of the largest number
Say = Callable[[str], None]


class FrozenFeatureCache:
    """Hands a data module the features of frozen encoders.

    Args:
        network: whose encoders; its weights are those of the run.
        nodes: {modality: what its encoder was built from}.
        datamodule: is set up.
        trainer: in whose precision, and on whose device, features are computed.
    """

    def __init__(
        self,
        network: MultiTaskNetwork,
        nodes: Mapping[str, Any],
        datamodule: MixedDataModule,
        trainer: Trainer,
    ) -> None:
        self.nodes = dict(nodes)
        self.network = network
        self.datamodule = datamodule
        self.plugin, self.precision = trainer.precision_plugin, str(trainer.precision)
        self.device = trainer.strategy.root_device

    def fill(self, say: Say) -> None:
        """Compute what isn't kept yet, and use all of it; where that can't be, say why."""
        for modality in modalities_to_cache(self.network):
            reason = cache_obstacle(self.datamodule, modality)
            if reason is None:
                reason = self._use(modality, self._made(modality, say))
            if reason is not None:
                say(f"note: features of {modality} are computed in every step: {reason}")

    def find(self) -> None:
        """Use what was kept, and compute nothing."""
        for modality in modalities_to_cache(self.network):
            if cache_obstacle(self.datamodule, modality) is None:
                key = partial(self._key, self._backbone_key(modality), modality)
                cache = self.datamodule.policy.cache
                found = {n: cache.find(CACHE_KIND, key(n)) for n in self._datasets(modality)}
                whole = {name: folder for name, folder in found.items() if folder is not None}
                if len(whole) == len(found):
                    self._use(modality, whole)

    def _datasets(self, modality: str) -> list[str]:
        return datasets_with(self.datamodule, modality)

    def _made(self, modality: str, say: Say) -> dict[str, Path]:
        """Return {data set: folder of its features}."""
        key = self._backbone_key(modality)
        return {n: self._entry(modality, n, key, say) for n in self._datasets(modality)}

    def _entry(self, modality: str, dataset: str, backbone: Any, say: Say) -> Path:
        store = self.datamodule.parts["train"][dataset].stores[modality]
        encoder = self.network.encoder(modality)

        def make(folder: Path) -> None:
            rows = int(store.has.sum())
            say(f"computing features of {rows:,} rows of {dataset} ({modality}), once")
            with on_device(encoder, self.device):
                FeatureExtraction(
                    partial(self._run, encoder),
                    store,
                    self.network.reads_tokens(modality),
                    ROUNDING["16" in self.precision],
                    f"features of {modality} of {dataset}",
                    f"encoder.{modality}.tune.cache",
                    min(BATCH_SIZE, self.datamodule.sampler.batch_size),
                ).write(folder)

        key = self._key(backbone, modality, dataset)
        return self.datamodule.policy.cache.get(CACHE_KIND, key, make, say)

    def _run(self, encoder: Encoder, inputs: Tensor) -> Features:
        """Return what the backbone makes of inputs, on the CPU."""
        given = self.plugin.convert_input(inputs.to(self.device))
        with self.plugin.forward_context():
            found = encoder.backbone(given)
        mask = None if found.mask is None else found.mask.cpu()
        return Features(
            as_numpy(found.pooled), as_numpy(found.sequence), as_numpy(found.grid), mask
        )

    def _use(self, modality: str, folders: Mapping[str, Path]) -> str | None:
        """Hand the features over; return why they can't be used, None if they can."""
        arrays = {name: FileArrays(folder) for name, folder in folders.items()}
        refused = [one.value(REFUSED) for one in arrays.values()]
        reason = next((one for one in refused if one is not None), None)
        if reason is None:
            kept = {name: FeatureTable(one) for name, one in arrays.items()}
            self.datamodule.use_cached_features(modality, kept)
        return reason

    def _key(self, backbone: Any, modality: str, dataset: str) -> list[Any]:
        return [CACHE_FORMAT, backbone, self.datamodule.loaded[dataset].keys[modality]]

    def _backbone_key(self, modality: str) -> list[Any]:
        """Return what features depend on besides data: weights, options, preprocessing, code."""
        encoder, item = self.network.encoder(modality), self.datamodule.modalities[modality]
        own = {k: v for k, v in self.nodes[modality].items() if k not in {"tune", *encoder.outer}}
        arguments = json.dumps([item.encoder_arguments(), item.state_dict()], sort_keys=True)
        return [
            digest_of_weights(encoder.tuned_part()),
            own,
            item.options(),
            hashlib.sha256(arguments.encode()).hexdigest(),
            digest_of_code(type(encoder)),
            [VERSION, *(version(package) for package in ("torch", *encoder.needs))],
            self.precision,
            self.network.reads_tokens(modality),
        ]


def modalities_to_cache(network: MultiTaskNetwork) -> list[str]:
    return [name for name, tuning in network.tunings.items() if tuning.caches]


def cacheable_modalities(network: MultiTaskNetwork, datamodule: MixedDataModule) -> list[str]:
    """Return the modalities whose features can be kept, as far as the configuration tells."""
    return [
        name for name in modalities_to_cache(network) if cache_obstacle(datamodule, name) is None
    ]


def cache_obstacle(datamodule: MixedDataModule, modality: str) -> str | None:
    """Return why a modality's features can't be kept, as far as the configuration tells."""
    changing = datamodule.modalities[modality].random_keys()
    if changing:
        keys = ", ".join(f"{key}={value}" for key, value in changing.items())
        return f"in training {keys} changes rows at random"
    names = datasets_with(datamodule, modality)
    streamed = [name for name in names if datamodule.loaded[name].table.streamed]
    return f"the rows of {', '.join(streamed)} are streamed" if streamed else None


def datasets_with(datamodule: MixedDataModule, modality: str) -> list[str]:
    return [name for name, data in datamodule.loaded.items() if modality in data.inputs]


@contextmanager
def on_device(module: nn.Module, device: torch.device) -> Iterator[None]:
    before = next((one.device for one in module.parameters()), device)
    module.to(device)
    try:
        yield
    finally:
        module.to(before)


@overload
def as_numpy(rows: Tensor) -> Tensor: ...


@overload
def as_numpy(rows: None) -> None: ...


def as_numpy(rows: Tensor | None) -> Tensor | None:
    """Return numbers on the CPU as NumPy knows them: 16 bits become 32, which loses nothing."""
    if rows is None:
        return None
    return rows.to("cpu", rows.dtype if rows.dtype == torch.float64 else torch.float32)


def digest_of_weights(module: nn.Module) -> str:
    """Return a hash of names, types, shapes and values of parameters and buffers."""
    state = hashlib.sha256()
    for name, value in module.state_dict().items():
        state.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        state.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()


def digest_of_code(kind: type) -> str:
    """Return a hash of the files in which a class, and those that it is made from, are written."""
    state = hashlib.sha256()
    for base in kind.__mro__:
        if issubclass(base, Encoder):
            file = getsourcefile(base)
            state.update(Path(file).read_bytes() if file else b"")
    return state.hexdigest()
