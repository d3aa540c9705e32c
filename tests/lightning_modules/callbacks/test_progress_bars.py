"""What a person sees while a run trains."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lightning_modules.callbacks.progress_bars import TrainingProgressBar
from tests.tiny import multitask, ready, trainer


@pytest.mark.parametrize(("terminal", "lines"), [(False, 2), (True, 0)])
def test_one_line_an_epoch_without_terminal(terminal: bool, lines: int, tmp_path: Path) -> None:
    data, output = ready(), StringIO()
    console = Console(file=output, force_terminal=terminal, width=120)
    fit = trainer(tmp_path, [TrainingProgressBar(console)], max_epochs=2, log_every_n_steps=2)
    module = multitask(data)
    fit.fit(module, datamodule=data)
    found = [line for line in output.getvalue().splitlines() if line.startswith("epoch ")]
    assert len(found) == lines
    if found:
        accuracy = f"{module.results['valid']['notes']['accuracy']:.3f}".removeprefix("0")
        assert found[1].startswith("epoch 2/2  step 8  notes ")
        assert f" {accuracy}" in found[1]
