"""The pieces of the measurement: each is one command, and one JSON file when it has ended."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

from benchmarks.common import is_finished, summary_of
from benchmarks.out_of_the_box.sets import reads_any
from pipeline.engines.process import ChildProcess, ProcessLock, failure_reason
from pollinate.files import write_json

ROOT = Path(__file__).parents[2]
PAUSE = 0.2  # seconds between two looks at a process
LAST_LINES = 20  # of what a failed run said, that are kept
SEEN = ("image", "audio")  # what the plain network reads


@dataclass(frozen=True)
class Piece:
    """A run of a set, or a plain network for one of its tasks.

    preset: of the run; None: this is the plain network.
    task: the only one that is learnt; None: all of the set.
    """

    set: str
    seed: int
    preset: str | None = None
    task: str | None = None

    @property
    def name(self) -> str:
        kind = "cnn" if self.preset is None else self.preset
        return "-".join([kind, *([self.task] if self.task else []), f"seed{self.seed}"])

    @property
    def words(self) -> str:
        """What it is, for people."""
        if self.preset is None:
            return f"{self.set}, plain network for {self.task}, seed {self.seed}"
        alone = f", {self.task} alone" if self.task else ""
        return f"{self.set}, preset {self.preset}{alone}, seed {self.seed}"


def all_pieces(
    sets: Mapping[str, Mapping[str, Any]],
    presets: Sequence[str],
    seeds: Sequence[int],
    apart: bool,
) -> list[Piece]:
    """Return the pieces in their order: one seed of everything before the next one.

    Args:
        sets: {name: what its task file says}.
        apart: whether each task of several is also learnt alone.
    """
    found = []
    for seed in seeds:
        for name, spec in sets.items():
            seen = [task for task in spec["tasks"] if reads_any(spec, task, SEEN)]
            found += [Piece(name, seed, task=task) for task in seen]
            found += [Piece(name, seed, preset) for preset in presets]
        several = {name: spec["tasks"] for name, spec in sets.items() if len(spec["tasks"]) > 1}
        alone = [(name, task) for name, tasks in several.items() for task in tasks]
        if apart:
            found += [Piece(n, seed, preset, task) for n, task in alone for preset in presets]
    return found


@dataclass(frozen=True)
class Place:
    """The folder of a measurement: task files, results, and the runs that are under way."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def task_file(self, piece: Piece) -> Path:
        return self.data / f"{piece.set}.yaml"

    def run(self, piece: Piece) -> Path:
        return self.folder / "runs" / piece.set / piece.name

    def result_file(self, piece: Piece) -> Path:
        return self.folder / "results" / piece.set / f"{piece.name}.json"

    def lock(self, piece: Piece) -> ProcessLock:
        return ProcessLock(self.run(piece).with_suffix(".lock"))

    def log(self, piece: Piece) -> Path:
        return self.run(piece).with_suffix(".log")

    def result(self, piece: Piece) -> dict[str, Any] | None:
        """Return what came of a piece, None if it hasn't ended."""
        file = self.result_file(piece)
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def results(self) -> list[dict[str, Any]]:
        """Return what came of all pieces that have ended."""
        files = sorted((self.folder / "results").glob("*/*.json"))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def is_done(self, piece: Piece) -> bool:
        found = self.result(piece)
        return found is not None and found["status"] == "finished"


def command(piece: Piece, place: Place) -> list[str]:
    """Return the command of a piece: the user's own, but for where the run goes."""
    run, file = place.run(piece), place.task_file(piece)
    if piece.preset is None:
        summary = run / "summary.json"
        own = [str(file), str(piece.task), str(piece.seed), str(summary)]
        return [sys.executable, "-m", "benchmarks.out_of_the_box.cnn", *own]
    tasks = [f"tasks=[{piece.task}]"] if piece.task else []
    words = [
        f"data={file}",
        f"preset={piece.preset}",
        *tasks,
        f"seed={piece.seed}",
        "tracking=none",
    ]
    return [sys.executable, "-m", "pipeline.fit", *words, f"run_dir={run}"]


def has_checkpoint(run: Path) -> bool:
    return (run / "checkpoints" / "last.ckpt").exists()


def run_piece(
    piece: Piece, place: Place, lock: ProcessLock, is_stopped: Callable[[], bool]
) -> dict[str, Any] | None:
    """Run a piece and keep what came of it; return that, or None if it was stopped.

    A run that was stopped before is resumed; one that has failed begins again.

    Args:
        lock: of the piece, taken before and after.
        is_stopped: says whether somebody asked to stop.
    """
    run, words = place.run(piece), command(piece, place)
    is_first = place.result(piece) is None  # it has never failed
    resumed = is_first and has_checkpoint(run)
    began = time.monotonic()
    if is_first and is_finished(run):  # this process' forerunner was killed just then
        outcome = outcome_of(piece, place, summary_of(run))
    else:
        if not resumed:
            shutil.rmtree(run, ignore_errors=True)
        own = [*words[:3], f"resume={run}"] if resumed else words
        code, output = run_child(own, place.log(piece), lock, is_stopped)
        while not lock.acquire():  # it went with the child: another process may have taken it since
            time.sleep(PAUSE)
        if place.is_done(piece):
            return place.result(piece)
        if code == 0 and is_finished(run):
            outcome = outcome_of(piece, place, summary_of(run))
        elif is_stopped():
            return None
        else:
            lines = output.splitlines()[-LAST_LINES:]
            reason = failure_reason(code, output)
            outcome = {"status": "failed", "reason": reason, "last_lines": lines}
    found = {
        **asdict(piece),
        **outcome,
        "resumed": resumed,
        "wall": time.monotonic() - began,
        "command": shlex.join(["python", *words[1:]]),
        "date": date.today().isoformat(),
        "machine": machine(),
    }
    write_json(place.result_file(piece), found)
    if found["status"] == "finished":
        shutil.rmtree(run, ignore_errors=True)
    return found


def run_child(
    words: Sequence[str], log: Path, lock: ProcessLock, is_stopped: Callable[[], bool]
) -> tuple[int, str]:
    """Run a command; return its exit code and what it said. It is asked to stop when we are."""
    child = ChildProcess(words, log, lock, os.environ, ROOT)
    try:
        while (code := child.ended()) is None:
            if is_stopped():
                child.ask()
            time.sleep(PAUSE)
    finally:
        child.kill()
    return code, child.output()


def outcome_of(piece: Piece, place: Place, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a run that has finished.

    scores: {task: {metric, test, majority, linear, rows}}: the metric is the task's own score, rows
        are those of training with a label. summary: all that the run says of itself.
    """

    def score(part: str, task: str) -> float | None:
        found: float | None = summary.get(part, {}).get(task, {}).get(metric)
        return found

    scores = {}
    for task, metric in score_names(place.task_file(piece)).items():
        if task in summary["test"]:
            scores[task] = {
                "metric": metric,
                "test": score("test", task),
                "majority": score("baseline", task),
                "linear": score("linear", task),
                "rows": summary.get("labels", {}).get(task),
            }
    return {"status": "finished", "scores": scores, "summary": dict(summary)}


@cache
def score_names(file: Path) -> dict[str, str]:
    """Return {task: the metric that is its score} of a task file."""
    from lightning_modules.building import build_tasks  # torch takes seconds
    from pipeline.configuration.composition import compose

    return {
        name: task.score for name, task in build_tasks(compose("fit", [f"data={file}"])).items()
    }


@cache
def machine() -> dict[str, Any]:
    """Return what figures depend on besides the task file."""
    from pipeline.tracking.provenance import provenance_tags

    tags = provenance_tags(ROOT)
    versions = {key.partition(".")[2]: own for key, own in tags.items() if "version." in key}
    commit = tags.get("mlflow.source.git.commit", "")[:10]
    changed = tags.get("mlflow.source.git.dirty") == "True"
    return {
        "cores": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "versions": versions,
        "commit": f"{commit} and changes" if commit and changed else commit,
    }


def seconds_left(left: Sequence[Piece], known: Mapping[Piece, float]) -> float | None:
    """Return how long pieces will take by those that have ended; None: none of their kind has.

    Of the same set and preset where there are any, else of the same preset.
    """
    total = 0.0
    for piece in left:
        kind = [one for one in known if kind_of(one) == kind_of(piece)]
        same = [known[one] for one in kind if one.set == piece.set]
        if not kind:
            return None
        total += fmean(same or [known[one] for one in kind])
    return total


def kind_of(piece: Piece) -> tuple[str | None, bool]:
    return piece.preset, piece.task is None
