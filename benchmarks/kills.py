"""Kills commands at random moments, goes on with them, and compares with commands left alone.

``python -m benchmarks.kills count=200 seed=0 kinds=fit,workers,ddp,study,merge,predict,cache``

Every trial starts a command in a session of its own, sends SIGKILL to all its processes, or to one
of them, after a random share of the time that the command takes, and starts it again as a user
would, until it is through. What it leaves must equal, bit for bit, what the undisturbed one left.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from pipeline.tracking.journals import read_points
from tests.pipeline.studies.text_shop import SMALL, write_shop

ROOT = Path(__file__).parents[1]
LONGEST = 300.0  # seconds for a command, and for the processes of one whose first was killed
MEASURED = ("steps_per_second", "seconds", "memory", "speed")  # what differs from run to run
FIT = [*SMALL, "data.cache=cache", "trainer.log_every_n_steps=1", "checkpoint.every_n_steps=2"]


@dataclass
class Command:
    """A command, and how it is gone on with.

    name: of the command's module; options: of it, where OUT stands for its own folder or file.
    resumed: whether ``resume=`` goes on; otherwise the same command is given again.
    alone: whether only one of its processes is killed, and the others must end by themselves.
    """

    name: str
    options: Sequence[str]
    resumed: bool = False
    alone: bool = False

    def words(self, out: Path, python: Sequence[str]) -> list[str]:
        given = [option.replace("OUT", str(out)) for option in self.options]
        if self.resumed and (out / "config.yaml").is_file():
            given = [f"resume={out}"]
        return [*python, "-m", f"pipeline.{self.name}", *given]


def commands() -> dict[str, Command]:
    fit = [*FIT, "run_dir=OUT"]
    models = "models=[source/a,source/b]"
    frozen = ["encoder.text.tune=frozen", "run_dir=OUT"]
    return {
        "fit": Command("fit", fit, resumed=True),
        "workers": Command("fit", [*fit, "loader.workers=2"], resumed=True),
        "ddp": Command("fit", [*fit, "trainer=ddp", "trainer.devices=2"], resumed=True, alone=True),
        "study": Command("study", [*FIT, "seeds=[0]", "jobs=2", "run_dir=OUT"]),
        "merge": Command("merge", [models, "output=OUT", "tracking=none", "overwrite=true"]),
        "predict": Command(
            "predict",
            ["checkpoint=source/a", "input=notes.csv", "output=OUT.csv", "overwrite=true"],
        ),
        "cache": Command("fit", [*FIT, *frozen], resumed=True),
    }


@dataclass
class Machine:
    """What commands run on.

    python: what starts them; cut: kills what runs of them outside the session of that.
    """

    python: Sequence[str] = (sys.executable,)
    cut: Callable[[], None] = lambda: None


def start(command: Command, out: Path, machine: Machine) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    out.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{out}.log").open("ab") as log:
        return subprocess.Popen(
            command.words(out, machine.python),
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def members(session: int) -> list[psutil.Process]:
    """Return the living processes of a session."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill(
    process: subprocess.Popen[bytes], draw: random.Random, alone: bool, machine: Machine
) -> None:
    """Kill a session's processes: one, after which the others must end by themselves, or all."""
    found = members(process.pid)
    with suppress(psutil.Error):
        if alone and found:
            draw.choice(sorted(found, key=lambda one: one.pid)).kill()
    until = time.monotonic() + (LONGEST if alone else 0)
    while alone and (left := members(process.pid)):
        if time.monotonic() > until:
            raise SystemExit(f"processes stay for ever: {[one.cmdline() for one in left]}")
        process.poll()
        time.sleep(0.2)
    with suppress(ProcessLookupError, psutil.Error):
        os.killpg(process.pid, signal.SIGKILL)
    for trial in members(process.pid):
        with suppress(psutil.Error):
            trial.kill()
    machine.cut()
    process.wait()


def through(command: Command, out: Path, machine: Machine) -> None:
    """Run a command to its end."""
    code = start(command, out, machine).wait(LONGEST)
    if code:
        raise SystemExit(f"{command.name} ended with {code}; see {out}.log")


def result(command: Command, out: Path) -> Any:
    """Return all that must be equal."""
    if command.name == "predict":
        left = [path.name for path in out.parent.glob(f".{out.name}*")]
        return Path(f"{out}.csv").read_text(), left
    if command.name == "study":
        found = json.loads((out / "results.json").read_text())["results"]["trials"]
        return [(one["arm"], one["seed"], one["status"], one["test"]) for one in found]
    files = sorted((out / "checkpoints").glob("[bl]*.ckpt"))
    weights = {f.name: torch.load(f, weights_only=True)["state_dict"] for f in files}
    points = [(p.key, p.step, p.value) for p in read_points(out / "metrics.jsonl")]
    counted = Counter((key, step) for key, step, _ in points)
    assert max(counted.values(), default=1) == 1, "a point is there twice"
    kept = {(k, s): repr(v) for k, s, v in points if not any(word in k for word in MEASURED)}
    left = [path.name for path in out.rglob(".*.tmp")]
    plain = {
        name: {key: value.numpy().tobytes() for key, value in own.items()}
        for name, own in weights.items()
    }
    scores = json.loads((out / "summary.json").read_text())
    return plain, kept, left, scores["status"], scores["test"]


def trial(
    command: Command, out: Path, seconds: float, draw: random.Random, machine: Machine
) -> int:
    """Kill a command once or twice, go on with it; return the kills."""
    kills = 0
    for _ in range(draw.choice((1, 1, 2))):
        process = start(command, out, machine)
        with suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0.05, 1.0) * seconds)
        if process.poll() is None:
            kills += 1
            kill(process, draw, command.alone and draw.random() < 0.7, machine)
    through(command, out, machine)
    return kills


def main(
    count: int = 200, seed: int = 0, kinds: Sequence[str] = (), machine: Machine | None = None
) -> Counter[str]:
    """Return how many kills each command survived, at least one each and ``count`` in all.

    The first that loses something ends it.
    """
    draw, done, machine = random.Random(seed), Counter[str](), machine or Machine()
    folder = Path(tempfile.mkdtemp(prefix="pollinate-kills-"))
    write_shop(folder)
    os.chdir(folder)
    known = {name: one for name, one in commands().items() if not kinds or name in kinds}
    for number, name in enumerate("ab" if "merge" in known else "a" if "predict" in known else ""):
        model = Command("fit", [*FIT, "run_dir=OUT", f"seed={number}"])
        through(model, Path("source", name), machine)
    expected, seconds = {}, {}
    for name, command in known.items():
        shutil.rmtree("cache", ignore_errors=True)
        began = time.monotonic()
        through(command, Path("alone", name).absolute(), machine)
        seconds[name] = time.monotonic() - began
        expected[name] = result(command, Path("alone", name).absolute())
    number = 0
    while done.total() < count or not all(done[name] for name in known):
        for name, command in known.items():
            number += 1
            if name == "cache":
                shutil.rmtree("cache", ignore_errors=True)
            out = Path("trials", f"{name}-{number}").absolute()
            done[name] += trial(command, out, seconds[name], draw, machine)
            if result(command, out) != expected[name]:
                raise SystemExit(f"{name}: {out} differs from {folder}/alone/{name}")
            sys.stdout.write(f"{name}: {done[name]} kills, nothing lost\n")
            sys.stdout.flush()
    shutil.rmtree(folder)
    return done


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    total = main(
        int(words.get("count", 200)),
        int(words.get("seed", 0)),
        words["kinds"].split(",") if "kinds" in words else (),
    )
    sys.stdout.write(f"{total.total()} kills: {dict(total)}, nothing lost\n")
