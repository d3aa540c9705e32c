"""From what a user calls a source to the source."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.checks import check_before_run
from pipeline.config import compose_with_requirements
from pipeline.errors import UsageError
from pipeline.locate import find_checkpoint
from pipeline.ranking.checkpoint_source import CheckpointSource
from pipeline.ranking.encoder_source import EncoderSource
from pipeline.ranking.source import Source
from pipeline.tracking.store import DATABASE

# encoder/text:minilm, encoder/text:transformers:FOLDER, or as on a command line:
# encoder/text=transformers encoder.text.model=FOLDER
ENCODER = re.compile(r"encoder/(?P<modality>\w+)(?P<sign>[:=])(?P<option>[^:=\s]+)(?P<rest>.*)")
OF_TIMM, OF_TRANSFORMERS = "architecture", "model_type"  # keys of a model's config.json
LISTENS = "sampling_rate"  # key of preprocessor_config.json of a model that takes sounds


def find_sources(names: str | Sequence[str], config: Mapping[str, Any]) -> list[Source]:
    """Return the sources of these names.

    Args:
        names: see configs/rank_sources.yaml.
        config: of the command.

    Raises:
        UsageError: a name is given twice.
        PollinateError: there is no such source, or it can't be loaded.
    """
    given = [names] if isinstance(names, str) else list(names)
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise UsageError(f"sources must differ, got {', '.join(twice)} more than once")
    return [find_source(name, config) for name in given]


def find_source(name: str, config: Mapping[str, Any]) -> Source:
    """Return one source.

    Raises:
        PollinateError: there is none of this name, or it can't be loaded.
    """
    match = ENCODER.fullmatch(name)
    if match is not None:
        modality = match["modality"]
        return EncoderSource(name, modality, composed(overrides_of(match), config))
    model = model_folder(Path(name).expanduser())
    if model is not None:
        modality, option = model
        overrides = [f"encoder/{modality}={option}", f"encoder.{modality}.model={quoted(name)}"]
        return EncoderSource(name, modality, composed(overrides, config))
    place = str(Path(name).expanduser()) if name.startswith("~") else name
    checkpoint = find_checkpoint(place, uri_of(config))
    return CheckpointSource(name, checkpoint, config["allow_targets"])


def uri_of(config: Mapping[str, Any]) -> str:
    """Return the address of MLflow, where run ids are looked up."""
    return str(config["tracking"].get("uri") or DATABASE)


def overrides_of(match: re.Match[str]) -> list[str]:
    """Return what a command line would say to choose an encoder."""
    modality, rest = match["modality"], match["rest"]
    chosen = f"encoder/{modality}={match['option']}"
    if rest.startswith(":"):
        return [chosen, f"encoder.{modality}.model={quoted(rest[1:])}"]
    return [chosen, *shlex.split(rest)]


def quoted(text: str) -> str:
    """Return a value as Hydra's grammar takes any text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def composed(overrides: Sequence[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run with the encoder, and this command's data.

    Raises:
        UsageError: there is no such option, or its packages are not installed.
    """
    allowed = f"allow_targets=[{','.join(config['allow_targets'])}]"
    found = compose_with_requirements("fit", [*overrides, allowed])
    check_before_run(found.requires)
    return {**config, "encoder": found.config["encoder"]}


def model_folder(folder: Path) -> tuple[str, str] | None:
    """Return (modality, option) of a folder with a model of timm or transformers, None for others.

    Raises:
        UsageError: its config.json is of neither.
    """
    file = folder / "config.json"
    if not file.is_file():
        return None
    known = json.loads(file.read_text(encoding="utf-8"))
    if OF_TIMM in known and OF_TRANSFORMERS not in known:
        return "image", "timm"
    if OF_TRANSFORMERS not in known:
        raise UsageError(
            f"{file} names neither an {OF_TIMM} of timm nor a {OF_TRANSFORMERS} of transformers; "
            "say what it is: encoder/text:transformers:FOLDER"
        )
    extractor = folder / "preprocessor_config.json"
    listens = extractor.is_file() and LISTENS in json.loads(extractor.read_text(encoding="utf-8"))
    return ("audio" if listens else "text"), "transformers"
