"""Options of the trainer work, or are refused in one line before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.profilers import SimpleProfiler

from lightning_modules.callbacks.stopping import StopTraining
from lightning_modules.tasks.classification import Classification
from lightning_modules.tasks.regression import Regression
from pipeline.configuration.composition import compose
from pipeline.monitored_metric import directions, monitored_mode
from pipeline.run_folder import RunFolder
from pipeline.trainer import profiler_of
from pollinate.errors import UsageError
from pollinate.interrupt import StopRequest
from tests.lean_fit import fit


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.limit_train_batches=0", "limit_train_batches must be > 0, got 0"),
        ("trainer.limit_val_batches=-1", "limit_val_batches must be a number of batches >= 0"),
        ("trainer.limit_test_batches=1.5", r"or a share in \[0.0, 1.0\]"),
        ("trainer.log_every_n_steps=-1", "log_every_n_steps must be >= 0, got -1"),
        ("trainer.fast_dev_run=true", "use trainer.max_steps=2 instead"),
        ("trainer.barebones=true", "is set by Pollinate"),
        ("trainer.reload_dataloaders_every_n_epochs=1", "is set by Pollinate"),
        ("trainer.precision=16-true", "optimizer.eps must be >= 6e-08"),
    ],
)
def test_refused_before_training(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compose("fit", ["tracking=none", override])


def test_half_precision_with_an_epsilon_that_it_can_hold() -> None:
    compose("fit", ["trainer.precision=16-true", "optimizer.eps=1e-4"])
    compose("fit", ["trainer.precision=16-true", "optimizer=sgd"])
    compose("fit", ["trainer.precision=bf16-true"])


def test_a_metric_knows_its_better_end() -> None:
    found = directions(Regression())
    assert found == {"loss": "min", "r2": "max", "mae": "min", "rmse": "min"}
    assert directions(Classification(classes=2)) == {
        "loss": "min",
        "accuracy": "max",
        "f1": "max",
        "auroc": "max",
    }


class Present:
    def __init__(self, rows: int) -> None:
        self.present = {"age": SimpleNamespace(sum=lambda: rows)}


def mode_of(monitor: str, mode: str | None = None, rows: int = 5, **config: Any) -> str:
    task = Regression("people", "age")
    data: Any = SimpleNamespace(tasks={"age": task}, parts={"valid": {"people": Present(rows)}})
    return monitored_mode(
        {
            "checkpoint": {"monitor": monitor, "mode": mode},
            "early_stopping": {"patience": config.pop("patience", None)},
            "trainer": config,
        },
        data,
    )


def test_the_mode_follows_the_metric() -> None:
    assert mode_of("valid/score") == "max"
    assert mode_of("valid/age/rmse") == mode_of("valid/age/loss", "min") == "min"
    assert mode_of("valid/score", rows=0) == "max"  # the last checkpoint remains
    with pytest.raises(UsageError, match="mode must be min, as a smaller valid/age/rmse is better"):
        mode_of("valid/age/rmse", "max")


def test_a_monitor_must_exist_and_be_measured() -> None:
    with pytest.raises(UsageError, match="did you mean valid/age/rmse"):
        mode_of("valid/age/rsme")
    with pytest.raises(UsageError, match="patience=3 counts validations, got data without"):
        mode_of("valid/score", rows=0, patience=3)
    with pytest.raises(UsageError, match=r"got trainer\.limit_val_batches=0"):
        mode_of("valid/score", patience=3, limit_val_batches=0)


def test_profilers_write_into_the_run_folder(tmp_path: Path) -> None:
    profiler = profiler_of("simple", RunFolder(tmp_path))
    assert isinstance(profiler, SimpleProfiler)
    assert profiler.dirpath == tmp_path
    assert profiler_of(None, RunFolder(tmp_path)) is None
    with pytest.raises(UsageError, match="or one of: simple, advanced, pytorch"):
        profiler_of("xla", RunFolder(tmp_path))


def test_a_resumed_run_says_that_nothing_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(max_epochs=3, is_global_zero=True)
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": 3}}}}
    checkpoint = {"global_step": 12, "loops": loops}
    module: Any = None
    StopTraining(StopRequest(), say=print).on_load_checkpoint(trainer, module, checkpoint)
    assert (
        "the run has had its 3 epochs; give more: trainer.max_epochs=N" in capsys.readouterr().out
    )
    trainer.max_epochs = 2
    with pytest.raises(UsageError, match=r"max_epochs must be > 3, .* got 2"):
        StopTraining(StopRequest()).on_load_checkpoint(trainer, module, checkpoint)
    trainer.max_epochs = -1
    with pytest.raises(UsageError, match=r"max_steps must be > 12, .* got 5"):
        StopTraining(StopRequest(), 5).on_load_checkpoint(trainer, module, checkpoint)


ROWS = "text,label,y\n" + "".join(f"word {i % 7},{'ab'[i % 2]},{i}\n" for i in range(40))
DATA = """
datasets:
  d: {source: csv, path: rows.csv, inputs: {text: text}, split: {train: 0.6, valid: 0.2, test: 0.2}}
tasks:
  kind: {dataset: d, type: classification, target: label}
text: {vocab_size: 260, max_length: 8}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "rows.yaml").write_text(DATA)
    return [
        f"data={tmp_path / 'rows.yaml'}",
        "tracking=none",
        f"run_dir={tmp_path / 'run'}",
        "dim=8",
        "gradients.every_n_steps=0",
    ]


def test_without_validation_and_test_a_run_ends_well(tiny: list[str], tmp_path: Path) -> None:
    limits = ["trainer.limit_val_batches=0", "trainer.limit_test_batches=0"]
    assert fit([*tiny, *limits, "trainer.max_steps=1"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["valid"] == summary["test"] == {}


def test_overfitting_goes_through_the_same_batches(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datamodules.loaders import TrainingSteps

    rows = []
    original = TrainingSteps.__getitem__

    def noted(self: TrainingSteps, step: int) -> Any:
        batch = original(self, step)
        rows.append(tuple(batch.batches["d"].index.tolist()))
        return batch

    monkeypatch.setattr(TrainingSteps, "__getitem__", noted)
    options = ["trainer.overfit_batches=2", "trainer.max_epochs=3", "sampler.batch_size=4"]
    assert fit([*tiny, *options, "trainer.enable_progress_bar=false"]) == 0
    assert len(rows) >= 6
    assert len(set(rows)) == 2
    history = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert f'"passes/d":{8 / 24}' in history.replace(" ", "")


def test_early_stopping_says_why_nothing_is_trained(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["optimizer.lr=0", "early_stopping.patience=1", "trainer.max_epochs=4"]
    assert fit([*tiny, *options]) == 0
    shown = capsys.readouterr().out
    assert "stopped early: valid/score was not better than" in shown
    assert "early_stopping.patience=null trainer.max_epochs=N" in shown
    assert fit([f"resume={tmp_path / 'run'}", "trainer.max_epochs=5"]) == 0
    assert "nothing is trained: valid/score was not better" in capsys.readouterr().out
