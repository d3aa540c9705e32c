"""Clipping, accumulation, bf16, averaged weights, early stopping and compiling in one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints import read_checkpoint
from tests.sessions import ROOT, SMOKE, Session, run_sessions

TOGETHER = (
    "compile=true",
    "ema_decay=0.9",
    "early_stopping.patience=1",
    "trainer.gradient_clip_val=0.5",
    "trainer.accumulate_grad_batches=2",
    "trainer.precision=bf16-mixed",
)
TEXTS = (
    f"data={ROOT / 'tests' / 'data' / 'csv.yaml'}",
    "tracking=none",
    "encoder.text.width=16",
    "sampler.batch_size=8",
    "sampler.steps_per_epoch=25",
    "trainer.max_epochs=2",
)
# {balancing: data and compiler}; all that is compiled for real is small
RUNS = {
    ("balancer=equal",): (TEXTS, "inductor"),
    ("balancer=upgrad", "balancer.level=features"): (SMOKE, "aot_eager"),
    ("balancer=pcgrad", "balancer.level=parameters", "balancer.losses=famo"): (SMOKE, "aot_eager"),
}


@pytest.mark.slow
@pytest.mark.parametrize("balancing", RUNS, ids=" ".join)
def test_the_trainers_options_work_together(balancing: tuple[str, ...], tmp_path: Path) -> None:
    base, compiler = RUNS[balancing]
    runs = {"plain": (), "together": (*TOGETHER, *balancing)}
    sessions = [
        Session(
            [*base, *options, f"run_dir={name}"], str(tmp_path / f"{name}.log"), compiler=compiler
        )
        for name, options in runs.items()
    ]
    codes = run_sessions(sessions, tmp_path)
    assert codes == [0, 0], (tmp_path / "together.log").read_text(encoding="utf-8")
    plain, together = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in runs
    )
    own = {name for name in together["state_dict"] if name.startswith("balancer.")}
    assert together["state_dict"].keys() - own == plain["state_dict"].keys()
    assert together["averaging_state"] and together["current_model_state"].keys()
    assert all(torch.isfinite(weight).all() for weight in together["state_dict"].values())
    summary = json.loads((tmp_path / "together" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    assert summary["steps"] == 26  # two epochs of 25 batches, two of which make a step
