"""Clipping, accumulation, bf16, averaged weights, early stopping and compiling in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
SHORT = ("sampler.steps_per_epoch=9", "trainer.max_epochs=2")
BASES = {
    "texts": (
        f"data={ROOT / 'tests' / 'data' / 'csv.yaml'}",
        "tracking=none",
        "encoder.text.width=16",
        "sampler.batch_size=8",
    ),
    "texts and images": SMOKE,
}
# {balancing: data and compiler}; all that is compiled for real is small, and to trace an encoder of
# images takes twice as long as that of texts
RUNS = {
    ("balancer=equal",): ("texts", "inductor"),
    ("balancer=upgrad", "balancer.level=features"): ("texts and images", "aot_eager"),
    ("balancer=pcgrad", "balancer.level=parameters", "balancer.losses=famo"): (
        "texts",
        "aot_eager",
    ),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """{base: names of the weights of a run without any of the options}."""
    root = tmp_path_factory.mktemp("plain")
    sessions = [
        Session([*base, "trainer.max_steps=1", f"run_dir={root / name}"], str(root / "log"))
        for name, base in BASES.items()
    ]
    assert run_sessions(sessions, root) == [0, 0], (root / "log").read_text(encoding="utf-8")
    return {name: set(last(root / name)["state_dict"]) for name in BASES}


def last(run: Path) -> dict[str, Any]:
    return read_checkpoint(run / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("balancing", RUNS, ids=" ".join)
def test_the_trainers_options_work_together(
    balancing: tuple[str, ...], plain: dict[str, set[str]], tmp_path: Path
) -> None:
    base, compiler = RUNS[balancing]
    run, log = tmp_path / "together", tmp_path / "together.log"
    arguments = [*BASES[base], *SHORT, *TOGETHER, *balancing, f"run_dir={run}"]
    codes = run_sessions([Session(arguments, str(log), compiler=compiler)], tmp_path)
    assert codes == [0], log.read_text(encoding="utf-8")
    together = last(run)
    own = {name for name in together["state_dict"] if name.startswith("balancer.")}
    assert together["state_dict"].keys() - own == plain[base]
    assert together["averaging_state"] and together["current_model_state"].keys()
    assert all(torch.isfinite(weight).all() for weight in together["state_dict"].values())
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    assert summary["steps"] == 10  # two epochs of 9 batches, two of which make a step
