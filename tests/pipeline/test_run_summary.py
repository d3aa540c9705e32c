"""How a run ended: for people, and for scripts."""

from __future__ import annotations

import json
import shlex
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pipeline.run_folder import RunFolder
from pipeline.run_summary import (
    RunSummary,
    constant_baselines,
    linear_verdict,
    print_next_steps,
    print_table,
)
from pollinate.overrides import override
from tests.tiny import images, labels, ready, task, texts


def printed(action: Any, *arguments: Any) -> list[str]:
    """The lines that an action prints, single spaces between words."""
    output = StringIO()
    action(Console(file=output, width=200), *arguments)
    return [" ".join(line.split()) for line in output.getvalue().splitlines()]


def test_summary_is_json_with_the_promised_keys() -> None:
    found = json.loads(json.dumps(RunSummary("finished").as_dict()))
    assert found.keys() >= {"status", "run_id", "steps", "seconds", "test", "baseline"}
    assert found["status"] == "finished"


def test_baseline_is_the_majority_of_training_on_test_rows() -> None:
    data = ready({"notes": texts(label=labels(40, ("a", "a", "a", "b"))), "shapes": images()})
    found = constant_baselines(data)
    for name, part in data.parts["test"].items():
        majority = data.parts["train"][name].targets[name].mode().values
        hits = (part.targets[name] == majority).double().mean().item()
        assert found[name] == {"accuracy": pytest.approx(hits)}
    assert found["notes"]["accuracy"] > 0.6


def test_baseline_of_two_data_sets_counts_labelled_rows_of_both() -> None:
    some = [label if row % 4 < 2 else None for row, label in enumerate(labels(40, "ab"))]
    datasets = {"notes": texts(label=some), "more": texts(label=["b"] * 40)}
    data = ready(datasets, {"tone": task("notes", "more")})
    parts = data.parts["test"].values()
    present = torch.cat([part.targets["tone"][part.present["tone"]] for part in parts])
    assert constant_baselines(data)["tone"]["accuracy"] == pytest.approx(
        (present == 1).double().mean()
    )


def test_table_has_a_line_a_task() -> None:
    data = ready()
    summary = RunSummary(
        "finished",
        valid={"notes": {"accuracy": 0.5}, "shapes": {"accuracy": 0.25}},
        test={"notes": {"accuracy": 0.625}},
        baseline={"notes": {"accuracy": 0.5}},
        linear={"notes": {"accuracy": 0.75}},
        rows_seen={"notes": 12345},
    )
    assert printed(print_table, summary, data) == [
        "task modality metric valid test baseline linear rows seen",
        "notes text accuracy 0.500 0.625 0.500 0.750 12,345",
        "shapes image accuracy 0.250 - - - 0",
    ]


def test_a_run_that_is_not_above_a_linear_model_says_so() -> None:
    data = ready()
    summary = RunSummary(
        "finished",
        test={"notes": {"accuracy": 0.5}, "shapes": {"accuracy": 0.5}},
        linear={"notes": {"accuracy": 0.75}, "shapes": {"accuracy": 0.25}},
    )
    said = linear_verdict(summary, data)
    assert said is not None
    assert said.startswith("not above a linear model on test: notes (0.500, linear 0.750); train")
    assert "encoder/text=minilm" in said
    summary.test["notes"]["accuracy"] = 0.76
    assert linear_verdict(summary, data) is None
    summary.linear = {"notes": {"accuracy": float("nan")}}
    assert linear_verdict(summary, data) is None


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        (None, None),
        ("sqlite:////a/mlflow.db", "MLflow python -m pipeline.ui uri=sqlite:////a/mlflow.db"),
        ("http://host:5000", "MLflow http://host:5000"),
    ],
)
def test_next_steps_can_be_copied(uri: str | None, line: str | None) -> None:
    folder = RunFolder(Path("/runs/a"))
    lines = printed(print_next_steps, folder, {"uri": uri}, False)
    assert lines[0] == "run folder /runs/a"
    assert [found for found in lines if found.startswith("MLflow")] == ([line] if line else [])
    # no folder names a server for the user
    named = f" {shlex.quote(override('tracking.uri', uri))}" if uri else ""
    again = f"resume python -m pipeline.fit resume=/runs/a{named} trainer.max_epochs=N"
    assert lines[-1] == again
    assert "checkpoint=/runs/a/checkpoints/best.ckpt input=FILE output=FILE" in lines[-2]


def test_a_run_without_validation_scores_has_no_best(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    (folder.checkpoints / "last.ckpt").touch()
    lines = printed(print_next_steps, folder, {"uri": None}, False)
    assert "checkpoints/last.ckpt input=FILE" in lines[-2]


def test_next_steps_hide_passwords() -> None:
    lines = printed(
        print_next_steps, RunFolder(Path("/a")), {"uri": "http://me:secret@host"}, False
    )
    assert "secret" not in "".join(lines)
