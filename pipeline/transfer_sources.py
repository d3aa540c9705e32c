"""Opens the sources of a transfer: runs, checkpoints, registered and other libraries' models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning_modules.checkpoints import read_checkpoint, read_spec
from lightning_modules.encoders.language_model import GGUF
from lightning_modules.encoders.pretrained_files import (
    PACKAGE,
    SUFFIXES,
    hub_or_cache,
    in_package,
    read_config,
    read_weights,
)
from lightning_modules.predictor import NETWORK_PREFIX, Predictor
from lightning_modules.source_models import SourceModel
from lightning_modules.state_dicts import StateDict
from lightning_modules.tuning.base import CONFIG
from pipeline.find_checkpoint import find_checkpoint
from pipeline.run_folder import RunFolder
from pipeline.tracking.mlflow_settings import DATABASE
from pollinate.errors import PollinateError
from pollinate.requirements import require

HUB = "hub:"  # before a model's id on Hugging Face's hub
# keys whose values name models
MODEL_KEYS = ("labels_of", "source", "sources", "teacher", "teachers", "tokenizer")


class SourceOpener:
    """The models that a run takes knowledge from.

    Args:
        uri: MLflow's address, where run ids and registered models are looked up; None: the
            database of the current folder.
        allow_targets: packages, besides our own, whose classes a source may name.
        expected: {name: digest} of the run that is resumed.

    Attributes:
        digests: {name: digest} of what was opened.

    Examples:
        >>> import pollinate as po
        >>> sources = po.SourceOpener()
        >>> source = sources.open("runs/first")
        >>> list(source.predictor().tasks), list(sources.digests)
        (['mood', 'stars'], ['runs/first'])
    """

    def __init__(
        self,
        uri: str | None = None,
        allow_targets: Sequence[str] = (),
        expected: Mapping[str, str] | None = None,
    ) -> None:
        self.uri = DATABASE if uri is None else uri
        self.allow_targets = tuple(allow_targets)
        self.expected = dict(expected or {})
        self.digests: dict[str, str] = {}

    def open(self, what: str) -> SourceModel:
        """Return a source.

        Args:
            what: a checkpoint, a run folder, an MLflow run id, a registered model
                (``models:/NAME/VERSION``), a folder or file of weights of timm or transformers,
                ``package:NAME/FOLDER``, a language model of the format GGUF, or ``hub:ID``.

        Raises:
            PollinateError: there is none, it is torn, or it changed since the run was started.
        """
        path = external_weights(what)
        source = self._own(what) if path is None else external_source(what, path)
        if self.expected.get(what, source.digest) != source.digest:
            raise PollinateError(
                f"the source {what} changed since the run was started, so it can't be resumed "
                "exactly; restore it or start a new run"
            )
        self.digests[what] = source.digest
        return source

    def _own(self, what: str) -> SourceModel:
        path = find_checkpoint(what, self.uri)
        spec = read_spec(path)
        return SourceModel(
            what,
            file_digest(path),
            network_weights(read_checkpoint(path)["state_dict"]),
            spec,
            partial(Predictor.load, path, self.allow_targets),
        )


def absolute_paths(node: Any, below: bool = False) -> Any:
    """Return a configuration in which files and folders that are there have absolute paths.

    Args:
        node: of which the values of ``MODEL_KEYS`` are looked at.
        below: whether it stands below one of them.
    """
    if isinstance(node, Mapping):
        return {
            key: absolute_paths(value, below or key in MODEL_KEYS) for key, value in node.items()
        }
    if isinstance(node, list):
        return [absolute_paths(value, below) for value in node]
    there = below and isinstance(node, str) and Path(node).expanduser().exists()
    return str(Path(node).expanduser().absolute()) if there else node


def external_weights(what: str) -> Path | None:
    """Return the file of weights of another library's model, None for models of this project."""
    if what.startswith(HUB):
        return hub_weights(what.removeprefix(HUB))
    packed = what.startswith(PACKAGE)
    place = in_package(what.removeprefix(PACKAGE)) if packed else Path(what).expanduser()
    if place.is_file():
        return place if place.suffix in (*SUFFIXES, GGUF) else None
    if any(RunFolder(place).checkpoints.glob("*.ckpt")):
        return None  # a run may keep tensors of other kinds beside its checkpoints
    files = sorted(place.iterdir()) if place.is_dir() else []
    # the safe format first, where a folder has the same weights in several
    found = [file for suffix in SUFFIXES for file in files if file.suffix == suffix]
    return found[0] if found else None


def external_source(what: str, path: Path) -> SourceModel:
    def load() -> Predictor:
        raise AssertionError("guarded by Source.predictor")

    known = path.parent / CONFIG
    adapter = read_config(known) if known.is_file() else None
    # who asks a model of the format GGUF lets transformers read its weights
    weights = {} if path.suffix == GGUF else read_weights(path)
    name = what.removeprefix(HUB)  # transformers finds it by its id again
    return SourceModel(name, file_digest(path), weights, None, load, adapter)


def hub_weights(model: str) -> Path:
    """Return the file of weights of a model of Hugging Face's hub, downloaded if it isn't here.

    Raises:
        PollinateError: it can't be had, or has no weights.
    """
    require("huggingface_hub", "encoders")
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in (*SUFFIXES, ".json", ".model", ".txt")]
    try:
        with hub_or_cache():
            folder = Path(snapshot_download(model, allow_patterns=patterns))
    except Exception as error:  # its client fails in many ways
        reason = " ".join(str(error).split())
        raise PollinateError(
            f"{HUB}{model} can't be had from the hub, nor was it downloaded before: {reason}"
        ) from error
    found = external_weights(str(folder))
    if found is None:
        raise PollinateError(f"{HUB}{model} has no file of weights; name a model that has")
    return found


def network_weights(weights: StateDict) -> StateDict:
    """Return the network's part of a module's weights, by the network's own names."""
    return {
        k.removeprefix(NETWORK_PREFIX): v
        for k, v in weights.items()
        if k.startswith(NETWORK_PREFIX)
    }


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
