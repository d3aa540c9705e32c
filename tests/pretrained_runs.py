"""Runs with models of other libraries on every type of task."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.lean_fit import fit
from tests.models import bert, with_weights

SHOP = Path(__file__).parent / "data"


def train(*arguments: str) -> None:
    assert fit(arguments) == 0


def pretrained(root: Path) -> list[str]:
    """Options of a run on titles and photos; writes the data file and a text model, ``model``."""
    model = with_weights(bert(root / "model"))
    spec = yaml.safe_load((SHOP / "tasks.yaml").read_text(encoding="utf-8"))
    spec["datasets"]["shop"]["path"] = str(SHOP / "shop.csv")
    spec["image"] = {"size": [32, 32]}
    (root / "data.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return [
        f"data={root}/data.yaml",
        "tracking=none",
        "dim=8",
        "encoder/text=transformers",
        f"encoder.text.model={model}",
        "encoder/image=timm",
        "encoder.image.model=test_resnet",
        "encoder.image.weights=false",
        "balancer=upgrad",
        "schedule=constant",
    ]
