"""A source's network, frozen, on the rows of this run's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from datamodules.features import Features
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.base import Modality
from lightning_modules.building import build_network, build_tasks, restore_vocabularies
from lightning_modules.encoders.base import Encoder, PretrainedEncoder
from lightning_modules.encoders.pretrained_files import local_copy, read_config
from lightning_modules.encoders.timm_image import TimmImage
from lightning_modules.encoders.transformers_audio import TransformersAudio
from lightning_modules.encoders.transformers_text import TransformersText
from lightning_modules.hooks import HookedModule
from lightning_modules.network import ForwardTrace, MultiTaskNetwork, combination, encode_batches
from lightning_modules.source_models import SourceModel
from lightning_modules.trunks.base import Routes
from lightning_modules.trunks.shared import SharedTrunk
from pollinate.errors import UsageError
from pollinate.overrides import option_text, override
from pollinate.program import shell_command
from pollinate.suggest import hint, listing

CONFIG = "config.json"
AUDIO_CONFIG = (
    "preprocessor_config.json"  # only folders of sound models have one, among those we read
)
UNUSED_WIDTH = 1  # of a projection that isn't used


class BackboneEncoder(Encoder):
    """A pre-trained network's features in its own widths.

    Args:
        encoder: whose own layers on top of it are left out.
    """

    def __init__(self, encoder: PretrainedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor) -> Features:
        return self.encoder.backbone(inputs)

    def tuned_part(self) -> nn.Module:
        return self.encoder.tuned_part()


def library_network(source: SourceModel) -> MultiTaskNetwork:
    """Return the encoder of a folder of timm or transformers, with its weights.

    Raises:
        UsageError: it is a file of weights without a description of the network.
    """
    modality = modality_of(source.name)
    encoder = library_encoder(modality, source.name)
    encoder.load()
    return encoders_only({modality: BackboneEncoder(encoder)})


def library_encoder(
    modality: str, model: str, assets: Mapping[str, Any] | None = None
) -> PretrainedEncoder:
    """Return the library's encoder of a modality, without its weights.

    Args:
        modality: image, text or audio.
        model: its folder.
        assets: its architecture and preprocessing; None: ask the folder.
    """
    if modality == "image":
        known = assets or TimmImage.assets_of({"model": model})
        return TimmImage(3, UNUSED_WIDTH, model, size=known["size"], assets=known)
    if modality == "audio":
        known = assets or TransformersAudio.assets_of({"model": model})
        return TransformersAudio(known["features"], UNUSED_WIDTH, model, assets=known)
    known = assets or TransformersText.assets_of({"model": model})
    return TransformersText(0, UNUSED_WIDTH, model, assets=known)


def encoder_spec(source: SourceModel) -> dict[str, Any]:
    """Return what a source's encoders can be built from, without its weights, as plain values."""
    if source.spec is not None:
        learnt = {name: source.spec["learnt"][name] for name in ("tasks", "modalities")}
        return {"config": source.spec["config"], "learnt": learnt}
    modality = modality_of(source.name)
    return {"modality": modality, "assets": dict(library_encoder(modality, source.name).known)}


def rebuild_network(known: Mapping[str, Any], allow: Sequence[str]) -> MultiTaskNetwork:
    """Return a network from its ``encoder_spec``, without its weights.

    Args:
        known: what ``encoder_spec`` returned.
        allow: packages, besides our own, whose classes may be named.
    """
    if "config" in known:
        config = {**known["config"], "allow_targets": list(allow)}
        tasks = build_tasks(config)
        return build_network(config, *restore_vocabularies(config, tasks, known["learnt"]))
    modality = known["modality"]
    return encoders_only(
        {modality: BackboneEncoder(library_encoder(modality, "", known["assets"]))}
    )


def encoders_only(encoders: Mapping[str, Encoder]) -> MultiTaskNetwork:
    """Return a network that encodes, and has no tasks."""
    return MultiTaskNetwork(encoders, SharedTrunk([], UNUSED_WIDTH, depth=0), {}, {})


def modality_of(folder: str) -> str:
    """Return the modality of a folder's model.

    Raises:
        UsageError: it isn't a folder with a config.json.
    """
    place = local_copy(folder)
    if place is None or not (place / CONFIG).is_file():
        raise UsageError(
            f"{folder} must be a run of this project, or a folder of timm or transformers with "
            "its config.json: weights alone don't say which network they are of"
        )
    if "architecture" in read_config(place / CONFIG):
        return "image"
    return "audio" if (place / AUDIO_CONFIG).is_file() else "text"


LIMITS = ("max_length", "longest")  # of which a source may have more than this run
IGNORED = ("words", "wide", "decoding")  # what the numbers that reach an encoder don't depend on


def require_raw_inputs(modality: str, module: HookedModule, name: str) -> None:
    """Check that a step will have the rows, and not only what a frozen encoder made of them."""
    tuning = module.network.tunings.get(modality)
    if tuning is not None and tuning.caches:
        raise UsageError(
            f"{name} must see the rows of {modality}, of which the frozen encoder's features are "
            f"kept in their place; set encoder.{modality}.tune.cache=false"
        )


def require_same_preprocessing(
    modality: str,
    theirs: Mapping[str, Modality] | None,
    network: MultiTaskNetwork,
    datamodule: MixedDataModule,
    name: str,
) -> None:
    """Check that a source's rows were prepared as this run's are.

    Args:
        modality: of the rows.
        theirs: the source's modalities; None: of another library's model.
        network: of the source.
        datamodule: of this run.
        name: of the source.

    Raises:
        UsageError: sizes, channels, rates or tokenizers differ.
    """
    own = datamodule.modalities[modality]
    if theirs is not None:
        wrong = differing_options(own.options(), theirs[modality].options())
    else:
        encoder = network.encoder(modality)
        assert isinstance(encoder, BackboneEncoder)
        wrong = differing_library_options(own, encoder.encoder.known)
    if wrong:
        key, (here, there) = next(iter(wrong.items()))
        raise UsageError(
            f"{name} reads other rows of {modality}: {key} is {there} there, {here} here; "
            f"{advice(modality, key, there, name, theirs is None)}"
        )


def differing_options(
    own: Mapping[str, Any], other: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return {option: (here, there)} of what stands in the way."""
    found = {}
    for key in sorted((own.keys() | other.keys()) - set(IGNORED)):
        here, there = own.get(key), other.get(key)
        fits = here <= there if key in LIMITS and here and there else here == there
        if not fits:
            found[key] = (shortened(here), shortened(there))
    return found


def differing_library_options(
    own: Modality, known: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return {option: (here, there)} for another library's model, whose assets are ``known``."""
    here = own.state_dict().get("assets", {})
    if "tokenizer" in known:
        same = all(here.get(key) == known[key] for key in ("tokenizer", "padding"))
        return {} if same else {"tokenizer": ("another", "its own")}
    if "extractor" in known:
        same = here.get("extractor") == known["extractor"]
        return {} if same else {"extractor": ("another", "its own")}
    size = own.options()["size"]
    fits = not known["fixed"] or size == known["size"]
    return {} if fits else {"size": (size, known["size"])}


def advice(modality: str, key: str, there: Any, name: str, library: bool) -> str:
    """Return what to write."""
    if key in ("tokenizer", "extractor") and library:
        return f"take an encoder that brings the same: encoder/{modality}=transformers"
    if key == "tokenizer":
        own = option_text("data.text.tokenizer", name)
        return f"take it over: {own}, or the same pre-trained encoder/text"
    if modality == "audio":
        return "give data.audio the source's options, or the same pre-trained encoder/audio"
    return f"set {option_text(f'data.{modality}.{key}', there)}"


def shortened(value: Any) -> Any:
    """Return a value as a message has room for: the start of a long text."""
    return value[:8] if isinstance(value, str) else value


@dataclass(frozen=True)
class FrozenOutputs:
    """What a teacher made of a step's rows; nothing of it has a gradient.

    outputs: {task of the teacher: (N, ...)}, rows of the data sets in the order of its route.
    representations: {task of the teacher: what its head read, (N, D)}.
    """

    outputs: Mapping[str, Tensor]
    representations: Mapping[str, Tensor]


class FrozenModel:
    """A source's network, in evaluation mode for good.

    It is no ``nn.Module``: one that holds it doesn't train it, move it, save it, or wake its
    dropout. It follows the rows to their device, and keeps its weights' own type.

    Args:
        source: a run of this project, or another library's model, which has no tasks.
    """

    def __init__(self, source: SourceModel) -> None:
        self.name = source.name
        self.network: MultiTaskNetwork
        self.modalities: Mapping[str, Any] | None = None  # of a run of this project
        if source.spec is None:
            self.network = library_network(source)
        else:
            predictor = source.predictor()
            self.network, self.modalities = predictor.single_network, predictor.modalities
        self.network.eval().requires_grad_(False)
        self._device: torch.device | None = None

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Return itself: nothing of it changes."""
        return self

    def require_encoder(
        self, modality: str, module: HookedModule, datamodule: MixedDataModule
    ) -> None:
        """Check that it can encode this run's rows of a modality.

        Raises:
            UsageError: it has no such encoder, or rows are prepared otherwise here.
        """
        if modality not in self.network.encoders:
            known = listing(self.network.encoders)
            raise UsageError(f"{self.name} doesn't read {modality}; it reads {known}")
        if modality in self.network.adapted():
            chosen = [override("checkpoint", self.name), f"modality={modality}"]
            export = shell_command("export", *chosen, "merge=true", "task=TASK", "output=FOLDER")
            raise UsageError(
                f"the encoder of {modality} of {self.name} has adapters of each task's own; write "
                f"it with one task's in its weights: {export}"
            )
        require_raw_inputs(modality, module, self.name)
        require_same_preprocessing(modality, self.modalities, self.network, datamodule, self.name)

    def require_task(
        self, task: str, datasets: Sequence[str], module: HookedModule, data: MixedDataModule
    ) -> None:
        """Check that it can do one of its tasks on rows of this run's data sets.

        Raises:
            UsageError: it has no such task, or doesn't read such rows.
        """
        if task not in self.network.heads:
            known = hint(task, self.network.heads, "its tasks")
            raise UsageError(f"{self.name} has no task {task!r}{known}")
        for name in datasets:
            inputs = tuple(data.datasets[name].inputs)
            lacking = [m for m in inputs if m not in self.network.encoders]
            if lacking or (len(inputs) > 1 and combination(inputs) not in self.network.fusions):
                raise UsageError(
                    f"{self.name} doesn't read {' and '.join(lacking or inputs)} together as the "
                    f"data set {name} has them; choose a source that was trained on such rows"
                )
            for modality in inputs:
                require_raw_inputs(modality, module, self.name)
                require_same_preprocessing(modality, self.modalities, self.network, data, self.name)

    def features(self, modality: str, batches: Mapping[str, Batch]) -> dict[str, Features]:
        """Return what its encoder makes of the rows of all data sets that have the modality."""
        given = {n: self._own(b) for n, b in batches.items() if modality in b.modalities}
        if not given:
            return {}
        with torch.no_grad():
            found = encode_batches(self.network.encoder(modality), modality, list(given.values()))
        return dict(zip(given, found, strict=True))

    def predict(self, batches: Mapping[str, Batch], routes: Routes) -> FrozenOutputs:
        """Return what it answers, and what its heads read.

        Args:
            batches: {data set of this run: rows}.
            routes: {task of the teacher: data sets of this run}; those without rows are left out.
        """
        given, trace = self._given(batches, routes), ForwardTrace()
        if not given:
            return FrozenOutputs({}, {})
        with torch.no_grad():
            outputs = self.network.predict(self.network.encode(given, routes), routes, trace=trace)
        return FrozenOutputs(outputs, trace.representations)

    def representations(self, batches: Mapping[str, Batch], routes: Routes) -> dict[str, Tensor]:
        """Return what its heads read, {task of the teacher: (N, D)}; see ``predict``.

        Unlike answers, it never depends on what stands beside the encoders: on the texts' terms.
        """
        given = self._given(batches, routes)
        if not given:
            return {}
        with torch.no_grad():
            _, found = self.network.head_inputs(self.network.encode(given, routes), routes)
        return {task: torch.cat(parts) for task, parts in found.items()}

    def _given(self, batches: Mapping[str, Batch], routes: Routes) -> dict[str, Batch]:
        """Return the rows of the data sets that are wanted, as its weights take them."""
        wanted = {name for names in routes.values() for name in names}
        return {name: self._own(rows) for name, rows in batches.items() if name in wanted}

    def _own(self, batch: Batch) -> Batch:
        """Return rows in the type of its weights, which then are on the rows' device."""
        if batch.index.device != self._device:
            self._device = batch.index.device
            self.network.to(self._device)
        kind = next((w.dtype for w in self.network.parameters()), torch.float32)
        return replace(
            batch,
            held_out={},  # they are of this run's wide paths
            inputs={
                name: rows.to(kind) if rows.is_floating_point() else rows
                for name, rows in batch.inputs.items()
            },
        )
