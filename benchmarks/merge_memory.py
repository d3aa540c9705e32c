"""Memory and time of merging ten checkpoints of 100 MB, against reading them twice.

    python -m benchmarks.merge_memory
    python -m benchmarks.merge_memory output=runs/many methods=average,ties

Peak memory is that of the command as a whole (``evaluate=false``), with Python, torch and
Lightning. Time is that of checking and merging, in one process after its imports; reading is the
checking and loading of ``read_checkpoint``. All files are in the system's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

COUNT = 10
MODEL = (
    "encoder/text=transformer",
    "encoder.text.depth=12",
    "dim=496",
    "~data.tasks.digit",
    "~data.tasks.optdigit",
    "~data.datasets.mnist",
    "~data.datasets.optdigits",
    "data.datasets.reviews.rows=100",
    "data.text.max_length=16",
    "sampler.batch_size=4",
    "trainer.max_steps=1",
    "gradients.every_n_steps=0",
    "tracking=none",
)
OPTIONS = {"ties": "method.scale=1.0", "task_arithmetic": "method.scale=0.3"}


def write_models(home: Path) -> list[Path]:
    """Train a model for one step, and write it ten times with other weights."""
    import torch

    from lightning_modules.checkpoints import BEST, read_checkpoint, write_checkpoint

    paths = [home / f"model{place}.ckpt" for place in range(COUNT)]
    if not paths[-1].exists():
        command = [sys.executable, "-m", "pipeline.fit", *MODEL, f"run_dir={home / 'run'}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        saved = read_checkpoint(home / "run" / "checkpoints" / BEST)
        parts = {"pollinate": saved["pollinate"]}
        for place, path in enumerate(paths):
            draws = torch.Generator().manual_seed(place)
            state = {
                name: value + 0.01 * torch.randn(value.shape, generator=draws)
                for name, value in saved["state_dict"].items()
            }
            write_checkpoint({"state_dict": state, **parts}, path)
    return paths


def arguments(paths: Sequence[Path], method: str, output: Path) -> list[str]:
    found = [f"models=[{','.join(map(str, paths))}]", f"method={method}", f"output={output}"]
    if method in ("ties", "dare", "task_arithmetic"):
        found += [f"base={paths[0].parent / 'run'}", OPTIONS.get(method, "method.scale=0.3")]
    return [*found, "evaluate=false", "tracking=none", "overwrite=true"]


def peak(paths: Sequence[Path], method: str, output: Path) -> float:
    """Return the command's largest resident memory, in MB."""
    command = [sys.executable, "-m", "pipeline.merge", *arguments(paths, method, output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024


def timed(paths: Sequence[Path], method: str, output: Path) -> None:
    """Print, as JSON, the seconds of reading all models twice, and of merging them."""
    from lightning_modules.checkpoints import read_checkpoint
    from pipeline.configuration.composition import compose
    from pipeline.merging.merge_run import MergeRun
    from pipeline.run_folder import RunFolder

    config = compose("merge", arguments(paths, method, output))
    base = paths[0].parent / "run" / "checkpoints" / "best.ckpt" if config["base"] else None
    seconds: dict[str, list[float]] = {"reading": [], "merging": []}
    for _ in range(3):
        start = time.perf_counter()
        for path in [*paths, *paths]:
            read_checkpoint(path)
        seconds["reading"].append(time.perf_counter() - start)
        start = time.perf_counter()
        MergeRun(config, RunFolder(output), list(paths), base, start).merged()
        seconds["merging"].append(time.perf_counter() - start)
    print(json.dumps({name: min(times) for name, times in seconds.items()}))


def main(argv: Sequence[str]) -> None:
    named = dict(a.split("=", 1) for a in argv)
    methods = named.get("methods", "average,ties,task_arithmetic").split(",")
    with tempfile.TemporaryDirectory() as place:
        home = Path(named.get("output", place)).absolute()
        home.mkdir(parents=True, exist_ok=True)
        paths = write_models(home)
        if "only" in named:
            timed(paths, named["only"], home / "merged")
            return
        size = paths[0].stat().st_size / 1e6
        print(f"{COUNT} checkpoints of {size:.0f} MB")
        for method in methods:
            memory = peak(paths, method, home / "merged")
            command = [sys.executable, "-m", "benchmarks.merge_memory", f"output={home}"]
            done = subprocess.run([*command, f"only={method}"], check=True, capture_output=True)
            found = json.loads(done.stdout.splitlines()[-1])
            ratio = found["merging"] / found["reading"]
            print(
                f"{method:16} {memory:6.0f} MB at the peak, merging {found['merging']:.2f} s, "
                f"reading twice {found['reading']:.2f} s: {ratio:.2f}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
