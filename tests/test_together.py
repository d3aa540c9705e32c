"""Clipping, accumulation, bf16, averaged weights, early stopping and compiling in one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints import read_checkpoint
from tests.sessions import SMOKE, Session, run_sessions

TOGETHER = (
    "compile=true",
    "ema_decay=0.9",
    "early_stopping.patience=1",
    "trainer.gradient_clip_val=0.5",
    "trainer.accumulate_grad_batches=2",
    "trainer.precision=bf16-mixed",
)
BALANCING = (
    ("balancer=equal",),
    ("balancer=upgrad", "balancer.level=features"),
    ("balancer=pcgrad", "balancer.level=parameters", "balancer.losses=famo"),
)


@pytest.mark.slow
@pytest.mark.parametrize("balancing", BALANCING, ids=" ".join)
def test_the_trainers_options_work_together(balancing: tuple[str, ...], tmp_path: Path) -> None:
    runs = {"plain": (), "together": (*TOGETHER, *balancing)}
    sessions = [
        Session([*SMOKE, *options, f"run_dir={name}"], str(tmp_path / f"{name}.log"))
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
