"""Data sets of a test's own: files in a folder, and the data file that names them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from datamodules.mixed_datamodule import MixedDataModule
from pipeline.build import build_datamodule
from pipeline.configuration.composition import compose
from pollinate.errors import PollinateError

HALVES = {"train": 0.5, "valid": 0.25, "test": 0.25}


def reviews(count: int = 16, **cells: str) -> str:
    """A CSV with the columns text, label and the given ones."""
    names = ["text", "label", *cells]
    lines = [",".join([f"text no {row}", "ab"[row % 2], *cells.values()]) for row in range(count)]
    return "\n".join([",".join(names), *lines]) + "\n"


def data(
    source: str = "csv",
    inputs: Any = None,
    split: Any = None,
    tasks: Any = None,
    **options: Any,
) -> dict[str, Any]:
    """A data file of one data set, ``shop``, and by default one task, ``kind``."""
    reads_files = source in ("csv", "tsv", "json", "parquet", "arrow", "npz")
    if reads_files and "path" not in options and not (split and "files" in split):
        options["path"] = f"shop.{'jsonl' if source == 'json' else source}"
    top = {
        key: options.pop(key)
        for key in ("on_bad_row", "strict", "image", "text", "audio")
        if key in options
    }
    dataset = {"source": source, "inputs": inputs or {"text": "text"}, "split": split or HALVES}
    kind = {"dataset": "shop", "type": "classification", "target": "label"}
    return {
        "datasets": {"shop": {**dataset, **options}},
        "tasks": tasks or {"kind": kind},
        "text": {"vocab_size": 300, "max_length": 16},
        "image": {"size": [8, 8]},
        **top,
    }


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    """Write files, with the folders that they lie in."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            path.write_bytes(content)


def loaded(folder: Path, spec: dict[str, Any], *overrides: str) -> MixedDataModule:
    """The data module of a data file, set up as a run does it."""
    return set_up(composed(folder, spec, *overrides))


def composed(folder: Path, spec: dict[str, Any], *overrides: str) -> dict[str, Any]:
    """The configuration of a run on a data file, which is written."""
    (folder / "shop.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    arguments: Sequence[str] = [f"data={folder / 'shop.yaml'}", *overrides]
    return compose("fit", [*arguments, f"data.cache={folder / 'cache'}"])


def set_up(config: dict[str, Any]) -> MixedDataModule:
    """The data module of a configuration, which stays as it is."""
    module = build_datamodule(deepcopy(config))
    module.setup()
    return module


def refusal(folder: Path, spec: dict[str, Any], *overrides: str) -> str:
    """What a data file is refused with."""
    with pytest.raises(PollinateError) as caught:
        loaded(folder, spec, *overrides)
    return str(caught.value)
