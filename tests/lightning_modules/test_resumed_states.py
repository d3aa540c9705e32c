"""Every method goes on from a checkpoint as if nothing had happened, bit for bit.

``tests/test_resume.py`` does so with whole runs that are killed, for one method of each family.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.callbacks.checkpoint import RankState
from lightning_modules.module import MultiTaskModule
from tests import sharded_processes, taught_processes, transfer_processes
from tests.rows.balancers import BALANCERS
from tests.rows.row import Row
from tests.rows.trunks import TRUNKS
from tests.sharded_processes import ShardedCase
from tests.test_resume import same
from tests.tiny import Given, trainer

EPOCH_STEPS = 2
MIDDLE = 3  # steps: within the second epoch of three
PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "rank_states")
Build = Callable[[Path], tuple[MultiTaskModule, Any]]


def plain(folder: Path, **options: Any) -> tuple[MultiTaskModule, Any]:
    """Three tasks on two data sets, with dropout; some steps lack a task."""
    rows = {"notes": 3, "shapes": 2}
    case = ShardedCase(encoder="bag", dropout=0.2, **options)
    return sharded_processes.build(case, Given(rows, EPOCH_STEPS))


INNER = Row("balancer", "cagrad", None, None, {"losses": "famo"})
CASES: dict[str, Build] = {
    **{row.name: partial(plain, balancer=row.node()) for row in BALANCERS},
    "balancer/cagrad of famo": partial(plain, balancer=INNER.node()),
    **{row.name: partial(plain, trunk=row.option) for row in TRUNKS},
    **{
        f"transfer, {name}": partial(transfer_processes.build, name)
        for name in transfer_processes.METHODS
    },
    **{
        f"teacher, {name}": partial(taught_processes.build, name) for name in taught_processes.NAMES
    },
}


class Keep(Callback):
    """Writes a checkpoint after some steps."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: object, **__: object
    ) -> None:
        if trainer.global_step == MIDDLE:
            trainer.save_checkpoint(self.path)


def trained(build: Build, folder: Path, start: Path | None = None) -> dict[str, Any]:
    """Train to the end, from a checkpoint if one is given; return what is saved then."""
    folder.mkdir(exist_ok=True)
    module, data = build(folder)
    callbacks = [RankState(), *([] if start else [Keep(folder / "middle.ckpt")])]
    fit = trainer(
        folder,
        callbacks,
        max_epochs=3,
        limit_train_batches=EPOCH_STEPS,
        limit_val_batches=1,
        gradient_clip_val=0.5,
    )
    torch.manual_seed(1 if start else 0)
    fit.fit(module, datamodule=data, ckpt_path=start)
    fit.save_checkpoint(folder / "last.ckpt")
    found: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return found


@pytest.mark.filterwarnings("ignore:Total length of `list`")  # a case without validation rows
@pytest.mark.parametrize("name", CASES)
def test_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    expected = trained(CASES[name], tmp_path / "whole")
    assert expected["global_step"] > MIDDLE
    found = trained(CASES[name], tmp_path / "rest", tmp_path / "whole" / "middle.ckpt")
    for part in PARTS:
        assert same(found[part], expected[part]), part
