"""Stands in for ``python -m pipeline.fit`` and ``rank_sources``: no training, the same manners.

``launcher="python .../stand_in.py"`` runs it. It goes on from where it was asked to stop, writes
what a run writes, and notes in ``$STAND_IN_LOG`` when it began and ended. An override ``dim=N``
makes it fail: 1 an error, 2 lack of memory, 3 a kill, 5 a score lacks.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

STEPS, PAUSE = 10, float(os.environ.get("STAND_IN_PAUSE", "0.01"))
DEAF = "STAND_IN_DEAF"  # variable: it doesn't hear SIGTERM, as one that is busy validating


def note(word: str, folder: Path) -> None:
    """Add a line to the log, whole."""
    log = os.environ.get("STAND_IN_LOG")
    if log:
        line = f"{word} {folder.parent.name}/{folder.name}\n".encode()
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)
        os.close(file)


def stop(number: int, frame: FrameType | None) -> None:
    """End as a run does that has saved its state."""
    sys.exit(128 + number)


def main() -> None:
    """Run."""
    if DEAF not in os.environ:
        signal.signal(signal.SIGTERM, stop)
    _, module, *words = sys.argv[1:]
    pairs = (word.split("=", 1) for word in words if "=" in word)
    told = {key: value.strip('"') for key, value in pairs}  # texts are in quotes
    folder = Path(told.get("resume") or told["run_dir"])
    state = folder / "state.json"
    if module == "pipeline.rank_sources":
        folder.mkdir(parents=True)
        (folder / "ranking.json").write_text(json.dumps(ranking(told)))
        return
    if "resume" in told:
        told = json.loads((folder / "told.json").read_text())
    else:
        assert not folder.exists(), f"{folder} is there"
        folder.mkdir(parents=True)
        (folder / "told.json").write_text(json.dumps(told))
        (folder / "config.yaml").write_text("{}")
    note("begin", folder)
    fail(told.get("dim"))
    begun = json.loads(state.read_text()) if state.exists() else 0
    for step in range(begun, STEPS):
        time.sleep(PAUSE)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step + 1, "time_ms": 0, "metrics": {}}) + "\n")
        temporary = state.with_suffix(".tmp")
        temporary.write_text(str(step + 1))
        temporary.replace(state)
    temporary = folder / "summary.tmp"
    note("end", folder)  # before: a kill in between is a run that isn't finished
    temporary.write_text(json.dumps(summary(told)))
    temporary.replace(folder / "summary.json")


def fail(how: str | None) -> None:
    """End as a real run might."""
    if how == "1":
        sys.exit("epoch 1\nerror: 2 problems\n  - the loss is NaN\n  - so is another")
    if how == "2":
        sys.exit("error: memory ran out in batches of 8 rows; try sampler.batch_size=4")
    if how == "3":
        os.kill(os.getpid(), signal.SIGKILL)


def summary(told: dict[str, str]) -> dict[str, Any]:
    """What a run leaves: scores that its overrides and seed settle."""
    tasks = re.findall(r"\w+", told["tasks"])
    lr = float(told.get("optimizer.lr", 0.01))
    numbers: dict[str, dict[str, float]] = {}
    for task in tasks:
        draw = random.Random(f"{task} {told['seed']} {len(tasks)} {told.get('balancer')}")
        numbers[task] = {"accuracy": 0.5 + 0.4 * draw.random() - abs(lr - 0.01)}
    lacking = {task: {} for task in tasks[:1]} if told.get("dim") == "5" else {}
    return {
        "status": "finished",
        "run_id": None,
        "steps": STEPS,
        "valid": numbers,
        "test": numbers | lacking,
        "labels": dict.fromkeys(tasks, 100),
        "rows_seen": dict.fromkeys(tasks, 200),
        "parameters": {"total": 7, "trained": 7},
    }


def ranking(told: dict[str, str]) -> dict[str, Any]:
    """What rank_sources leaves of two tasks, by their models and as tasks."""
    models = [one.strip('"') for one in told["sources"].strip("[]").split(",")]

    def outcome(value: float | None, rows: int) -> dict[str, Any]:
        return {"value": value, "seconds": 0.5, "rows": rows, "reason": None}

    sources = {name: {"cka": outcome(0.25, 8), "tag": outcome(None, 0)} for name in models}
    sources |= {
        f"task:{name}": {"cka": outcome(None, 0), "tag": outcome(0.75, 0)} for name in ("a", "b")
    }
    seconds = {"features": dict.fromkeys(models, 1.0), "short_run": {"run": 2.0, "affinity": 3.0}}
    return {"tasks": {name: {"sources": sources} for name in ("a", "b")}, "seconds": seconds}


if __name__ == "__main__":
    main()
