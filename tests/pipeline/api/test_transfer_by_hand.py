"""A model made by hand takes knowledge from another one, in a stock Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

import pollinate as po

ROWS = pd.DataFrame(
    {
        "review": [f"{'good' if row % 2 else 'bad'} thing {row % 7}" for row in range(60)],
        "kind": ["yes" if row % 2 else "no" for row in range(60)],
    }
)


def data() -> Any:
    return po.MixedDataModule(
        {"reviews": po.Dataset(ROWS, valid=0.2, inputs={"text": "review"})},
        tasks={"kind": po.tasks.Classification("reviews", target="kind")},
    )


def trainer(folder: Path) -> Trainer:
    return Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("source")
    rows = data()
    model = po.MultiTaskModule(rows, dim=8)
    fitted = trainer(folder)
    fitted.fit(model, datamodule=rows)
    fitted.save_checkpoint(folder / "source.ckpt")
    return folder / "source.ckpt"


pytestmark = pytest.mark.filterwarnings("ignore")  # a stock Trainer warns of its own setup


def test_weights_are_those_of_the_source(source: Path) -> None:
    start = po.transfer.Init(source=str(source))
    model = po.MultiTaskModule(data(), dim=8, transfer=start, sources=po.SourceOpener())
    saved = po.load(source).network.state_dict()
    own = model.network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in saved.items())


def test_teachers_are_asked_before_the_first_step(source: Path, tmp_path: Path) -> None:
    rows = data()
    taught = po.transfer.Hinton(teachers=str(source))
    model = po.MultiTaskModule(rows, dim=8, transfer=taught, sources=po.SourceOpener())
    fitted = trainer(tmp_path)
    fitted.fit(model, datamodule=rows)
    assert float(fitted.callback_metrics["train/kind/loss"]) > 0
    assert "valid/score" in fitted.callback_metrics


def test_a_method_without_sources_is_refused() -> None:
    with pytest.raises(po.UsageError, match=r"sources=po\.SourceOpener\(\)"):
        po.MultiTaskModule(data(), transfer=po.transfer.Init(source="x"))
