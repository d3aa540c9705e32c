"""Candidate sources: checkpoints of this project, pre-trained encoders, and their names."""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.features import Features
from lightning_modules.building import TUNE, build_modalities
from lightning_modules.checkpoints import read_spec
from lightning_modules.encoders.base import PretrainedEncoder
from lightning_modules.encoders.pretrained_files import read_config
from lightning_modules.predictor import EncodedRows, Predictor
from lightning_modules.source_models import refuse_ensemble
from lightning_modules.task_rows import keys_of_task
from lightning_modules.transferability.base import Absent
from pipeline.configuration.composition import compose_with_requirements
from pipeline.find_checkpoint import find_checkpoint
from pipeline.ranking.target_sample import Cells
from pipeline.tracking.mlflow_settings import DATABASE
from pollinate.errors import UsageError
from pollinate.instantiate import find_target, instantiate
from pollinate.overrides import override
from pollinate.requirements import require_all


@dataclass
class FeatureBlock:
    """What one part of a source makes of rows.

    rows: (M,) places, sorted, of the rows that it could read; values: (M, ...) float64, theirs.
    """

    rows: np.ndarray
    values: Tensor

    def at(self, rows: np.ndarray) -> Tensor:
        """Return the values of rows that are here: (n, ...)."""
        return self.values[torch.from_numpy(np.searchsorted(self.rows, rows))]


@dataclass
class SourceRepresentation:
    """What a source makes of rows.

    features: {part: (M, D)}; several where heads read different features.
    probabilities: {head: (M, S), of its S classes}.
    """

    features: dict[str, FeatureBlock]
    probabilities: dict[str, FeatureBlock | Absent]


class CandidateSource(ABC):
    """A model that a transfer could start from.

    Attributes:
        name: as the user wrote it.
        modalities: that it reads.
        rows: labelled training rows it has seen.
    """

    name: str
    modalities: Sequence[str]
    rows: int | Absent

    @abstractmethod
    def reads(self, modalities: Sequence[str]) -> bool:
        """Say whether it makes something of rows with these modalities."""

    @abstractmethod
    def parameters(self, modalities: Sequence[str]) -> int:
        """Return how many weights a transfer to a model of these modalities takes over."""

    @abstractmethod
    def represent(self, columns: Cells, batch_size: int) -> SourceRepresentation:
        """Encode rows, by the source's own preprocessing."""


def mismatch(source: CandidateSource, modalities: Sequence[str]) -> str:
    return f"{source.name} reads {' and '.join(source.modalities)}, not {' or '.join(modalities)}"


class CheckpointSource(CandidateSource):
    """Features are what the trunk makes of the rows for each head, as the heads read them."""

    def __init__(self, name: str, checkpoint: Path, allow_targets: Sequence[str] = ()) -> None:
        self.name = name
        self.checkpoint = checkpoint
        spec = read_spec(checkpoint)
        refuse_ensemble(name, spec)
        self.predictor = Predictor.load(checkpoint, allow_targets)
        self.modalities = tuple(self.predictor.modalities)
        labelled = spec["learnt"].get("labelled")
        self.rows = (
            Absent("its checkpoint is of a version that didn't count them")
            if labelled is None
            else sum(labelled.values())
        )

    def reads(self, modalities: Sequence[str]) -> bool:
        return bool(self.predictor.predictable_tasks(modalities))

    def parameters(self, modalities: Sequence[str]) -> int:
        network = self.predictor.single_network
        own = [network.encoder(name) for name in self.modalities if name in modalities]
        parts = torch.nn.ModuleList([*own, network.fusions, network.trunk])
        return sum(weight.numel() for weight in parts.parameters())

    def represent(self, columns: Cells, batch_size: int) -> SourceRepresentation:
        """Encode rows; those that can't be read are left out."""
        tasks = self.predictor.predictable_tasks(list(columns))
        features: dict[str, dict[int, Tensor]] = defaultdict(dict)
        said: dict[str, dict[int, Tensor]] = defaultdict(dict)
        for encoded in self.predictor.encoded(columns, tasks, batch_size, {}):
            for part, rows in self._features(encoded).items():
                features[part].update(zip(encoded.rows, rows, strict=True))
            for head, rows in self._probabilities(encoded).items():
                said[head].update(zip(encoded.rows, rows, strict=True))
        return SourceRepresentation(
            {part: block(rows) for part, rows in features.items()},
            {
                task: block(said[task])
                if task in said
                else Absent(f"its task {task} has no classes of which a row has one")
                for task in tasks
            },
        )

    def _features(self, encoded: EncodedRows) -> dict[str, Tensor]:
        """Return {part: (n, D)}, of whole rows also for heads that look at words or cells."""
        network = self.predictor.single_network
        groups: dict[str, Features] = {}
        paths = {}
        for task, names in encoded.routes.items():
            keys = keys_of_task(encoded.datasets, task, names)
            groups |= {key: encoded.datasets[key].fused for key in keys}
            paths[task] = list(keys)
        with torch.inference_mode():
            found = {task: torch.cat(list(r)) for task, r in network.trunk(groups, paths).items()}
        if network.trunk.same_for_all and not network.adapted():
            (name,) = encoded.datasets
            return {name: next(iter(found.values()))}
        return found

    def _probabilities(self, encoded: EncodedRows) -> dict[str, Tensor]:
        """Return {head with classes: (n, S)}."""
        with torch.inference_mode():
            outputs = self.predictor.network.predict(encoded.datasets, encoded.routes)
            found = {
                task: self.predictor.tasks[task].class_probabilities(output)
                for task, output in outputs.items()
            }
        return {task: rows for task, rows in found.items() if rows is not None}


def block(rows: Mapping[int, Tensor]) -> FeatureBlock:
    order = sorted(rows)
    values = torch.stack([rows[row] for row in order]).double()
    return FeatureBlock(np.array(order, dtype=np.int64), values)


ENCODER_GROUP = "encoder"  # the one part of such a source
# options of the data that are the encoder's own affair here
TARGET_OPTIONS = {"image": {"size": None, "augment": None}, "text": {"tokenizer": None}}


class EncoderSource(CandidateSource):
    """Features are what the encoder's own network makes of the rows, before any new layer."""

    def __init__(self, name: str, modality: str, config: Mapping[str, Any]) -> None:
        node = {k: v for k, v in config["encoder"][modality].items() if k != TUNE}
        allow, key = config["allow_targets"], f"encoder.{modality}"
        kind = find_target(node["_target_"], allow, key)
        if not issubclass(kind, PretrainedEncoder) or not node.get("weights", True):
            raise UsageError(
                f"source {name}: {kind.__name__} has no pre-trained weights; name a checkpoint of "
                "a run with it, or a pre-trained encoder such as encoder/text:minilm"
            )
        self.name = name
        self.modalities = (modality,)
        self.rows = Absent("how many rows a pre-trained encoder has seen isn't known")
        options = {**config["data"][modality], **TARGET_OPTIONS.get(modality, {})}
        alone = {modality: options, "datasets": {name: {"inputs": {modality: modality}}}}
        self.modality = build_modalities({**config, "data": alone}, {})[modality]
        self.encoder: PretrainedEncoder = instantiate(
            node, allow, key, **self.modality.encoder_arguments()
        )
        self.encoder.load()
        self.encoder.eval()

    def reads(self, modalities: Sequence[str]) -> bool:
        return self.modalities[0] in modalities

    def parameters(self, modalities: Sequence[str]) -> int:
        return sum(weight.numel() for weight in self.encoder.tuned_part().parameters())

    def represent(self, columns: Cells, batch_size: int) -> SourceRepresentation:
        """Encode rows; those that lack a value or can't be read are left out."""
        (column,) = columns.values()
        store = self.modality.prepare(column).store
        rows = np.flatnonzero(store.has)
        lengths = store.lengths()
        order = rows if lengths is None else rows[np.argsort(lengths[rows], kind="stable")]
        if not len(order):
            return SourceRepresentation({}, {})
        pooled = []
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                inputs = store.rows(order[start : start + batch_size])
                pooled.append(self.encoder.backbone(inputs).pooled.double())
        features = torch.cat(pooled)[torch.from_numpy(np.argsort(order))]
        none = Absent("a pre-trained encoder comes without a head")
        return SourceRepresentation(
            {ENCODER_GROUP: FeatureBlock(rows, features)}, {ENCODER_GROUP: none}
        )


# encoder/text:minilm, encoder/text:transformers:FOLDER, or as on a command line:
# encoder/text=transformers encoder.text.model=FOLDER
ENCODER_NAME = re.compile(
    r"encoder/(?P<modality>\w+)(?P<sign>[:=])(?P<option>[^:=\s]+)(?P<rest>.*)"
)
OF_TIMM, OF_TRANSFORMERS = "architecture", "model_type"  # keys of a model's config.json
LISTENS = "sampling_rate"  # key of preprocessor_config.json of a model that takes sounds


def find_sources(names: str | Sequence[str], config: Mapping[str, Any]) -> list[CandidateSource]:
    """Return the sources of these names.

    Raises:
        UsageError: a name is given twice.
        PollinateError: there is no such source, or it can't be loaded.
    """
    given = [names] if isinstance(names, str) else list(names)
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise UsageError(f"sources must differ, got {', '.join(twice)} more than once")
    return [find_source(name, config) for name in given]


def find_source(name: str, config: Mapping[str, Any]) -> CandidateSource:
    match = ENCODER_NAME.fullmatch(name)
    if match is not None:
        modality = match["modality"]
        return EncoderSource(name, modality, composed(overrides_of(match), config))
    model = model_folder(Path(name).expanduser())
    if model is not None:
        modality, option = model
        overrides = [f"encoder/{modality}={option}", override(f"encoder.{modality}.model", name)]
        return EncoderSource(name, modality, composed(overrides, config))
    place = str(Path(name).expanduser()) if name.startswith("~") else name
    checkpoint = find_checkpoint(place, uri_of(config))
    return CheckpointSource(name, checkpoint, config["allow_targets"])


def uri_of(config: Mapping[str, Any]) -> str:
    return str(config["tracking"].get("uri") or DATABASE)


def overrides_of(match: re.Match[str]) -> list[str]:
    modality, rest = match["modality"], match["rest"]
    chosen = f"encoder/{modality}={match['option']}"
    if rest.startswith(":"):
        return [chosen, override(f"encoder.{modality}.model", rest[1:])]
    return [chosen, *shlex.split(rest)]


def composed(overrides: Sequence[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run with the encoder, and this command's data."""
    allowed = override("allow_targets", config["allow_targets"])
    found = compose_with_requirements("fit", [*overrides, allowed])
    require_all(found.requires)
    return {**config, "encoder": found.config["encoder"]}


def model_folder(folder: Path) -> tuple[str, str] | None:
    """Return (modality, option) of a folder with a model of timm or transformers, else None."""
    file = folder / "config.json"
    if not file.is_file():
        return None
    known = read_config(file)
    if OF_TIMM in known and OF_TRANSFORMERS not in known:
        return "image", "timm"
    if OF_TRANSFORMERS not in known:
        raise UsageError(
            f"{file} names neither an {OF_TIMM} of timm nor a {OF_TRANSFORMERS} of transformers; "
            "say what it is: encoder/text:transformers:FOLDER"
        )
    extractor = folder / "preprocessor_config.json"
    listens = extractor.is_file() and LISTENS in read_config(extractor)
    return ("audio" if listens else "text"), "transformers"
