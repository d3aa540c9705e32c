"""Lightning's Trainer drives the logger as its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from pipeline.tracking import LocalTracker
from pipeline.tracking.lines import read_lines
from pipeline.tracking.points import read_points


class Line(LightningModule):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train/line/loss", loss)
        return loss

    def test_step(self, batch: Any, _: int) -> None:
        self.log("test/line/loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # Lightning with torch 2.14
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_fit_and_test_write_one_history(tmp_path: Path, monkeypatch: Any) -> None:
    synced: list[int] = []
    tracker = LocalTracker(run_dir=tmp_path, run_name="one", resume=False)
    monkeypatch.setattr(tracker._points, "sync", lambda: synced.append(1))
    trainer = Trainer(
        max_steps=6, logger=tracker, accelerator="cpu", log_every_n_steps=2,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = DataLoader([torch.ones(1)] * 6, num_workers=0)
    model = Line(rate=0.1)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    tracker.close("finished")
    history = [(point.key, point.step) for point in read_points(tmp_path / "metrics.jsonl")]
    assert [item for item in history if item[0] != "epoch"] == [
        ("train/line/loss", 1), ("train/line/loss", 3), ("train/line/loss", 5),
        ("test/line/loss", 6),
    ]  # fmt: skip
    operations = [record for record, _ in read_lines(tmp_path / "operations.jsonl")]
    assert {"rate": "0.1"} in [operation.get("params") for operation in operations]
    assert len(synced) <= 4  # never per step: waiting for the disk takes milliseconds
