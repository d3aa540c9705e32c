"""A target of texts with tasks of several types, and a run on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.configuration.composition import compose
from tests.lean_fit import fit

ROWS = 64
SMALL = ("tracking=none", "dim=8", "encoder.text.width=8", "encoder.text.pairs=64")
SIDES = ("bad", "good")


def shop() -> str:
    """Texts that say their label; a price for every other row, a level, tags, a class of one."""
    lines = ["text,kind,price,level,tags,one"]
    for row in range(ROWS):
        price = f"{row % 2 + row / 100}" if row % 4 < 2 else ""
        tags = "cup;hat" if row % 3 == 0 else "pen"
        lines.append(f"{SIDES[row % 2]} text no {row},{SIDES[row % 2]},{price},{row % 3},{tags},")
    return "\n".join(lines) + "\n"


def spec(**tasks: Any) -> dict[str, Any]:
    """A data file on these texts."""
    named = {name: {"dataset": "shop", **task} for name, task in tasks.items()}
    split = {"train": 0.5, "valid": 0.25, "test": 0.25}
    dataset = {"source": "csv", "path": "shop.csv", "inputs": {"text": "text"}, "split": split}
    text = {"vocab_size": 300, "max_length": 16}
    return {"datasets": {"shop": dataset}, "tasks": named, "text": text}


KIND = {"type": "classification", "target": "kind"}
PRICE = {"type": "regression", "target": "price"}
LEVEL = {"type": "ordinal", "target": "level"}
TAGS = {"type": "multilabel", "target": "tags", "separator": ";"}


@dataclass(frozen=True)
class Shop:
    """A folder with data files, and the folder of a run on kind and price."""

    folder: Path
    run: Path

    def data(self, name: str, **tasks: Any) -> Path:
        """Write a data file."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec(**tasks)), encoding="utf-8")
        return path

    def config(self, data: Path, *overrides: str) -> dict[str, Any]:
        """The command's configuration."""
        return compose("rank_sources", [f"data={data}", *SMALL, *overrides])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A run of a few steps; its folder is not to be changed."""
    folder = tmp_path_factory.mktemp("ranking")
    (folder / "shop.csv").write_text(shop(), encoding="utf-8")
    found = Shop(folder, folder / "run")
    data = found.data("source", kind=KIND, price=PRICE)
    steps = ("trainer.max_steps=20", "sampler.batch_size=16")
    assert fit([f"data={data}", *SMALL, *steps, f"run_dir={found.run}"]) == 0
    return found
