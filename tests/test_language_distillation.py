"""Language models that teach language models, from files to answers."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.lean_fit import fit
from tests.models import llama
from tests.test_generation import SPLIT, last
from tests.writers import words_frame

TASKS = """
datasets:
  words: {{source: csv, path: {path}, inputs: {{text: word}}, split: {split}}}
tasks:
  turned: {{dataset: words, type: generation, prompt: "turn {{word}}", target: turned}}
  first: {{dataset: words, type: {first}, target: first{more}}}
"""
BOTH = (
    "transfer=several",
    "transfer.methods={write: {name: sequence_level, alpha: 0.5, teachers: {turned: TEACHER}}, "
    "gkd: {name: gkd, on_policy: 0.5, alpha: 0.7, teachers: {turned: TEACHER}}, "
    "classes: {name: hinton, teachers: {first: TEACHER}}}",
)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of a student of two tasks; its teacher answers both in words."""
    folder = tmp_path_factory.mktemp("words")
    words_frame(48).to_csv(folder / "words.csv", index=False)
    words = ', prompt: "{word}", choices: labels'
    for name, kind, more in (("teacher", "generation", words), ("student", "classification", "")):
        spec = TASKS.format(path=folder / "words.csv", split=SPLIT, first=kind, more=more)
        (folder / f"{name}.yaml").write_text(spec)
    common = [
        "encoder/text=language_model",
        f"encoder.text.model={llama(folder / 'model')}",
        "encoder.text.weights=false",
        "dim=8",
        "sampler.batch_size=12",
        "tracking=none",
        "trainer.max_epochs=2",
        f"data.cache={folder}/cache",
    ]
    teacher = folder / "teacher"
    assert fit([f"data={folder}/teacher.yaml", *common, f"run_dir={teacher}"]) == 0
    given = [one.replace("TEACHER", str(teacher)) for one in BOTH]
    return [f"data={folder}/student.yaml", *common, *given, "trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def run(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert fit([*options, f"run_dir={folder}"]) == 0
    return folder


def test_a_student_of_three_methods(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert set(summary["test"]) == {"turned", "first"}
    lines = [
        json.loads(line)["metrics"] for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(line["distil/first"] > 0 for line in lines if "distil/first" in line)
    assert any(line.get("distil/turned", 0) > 0 for line in lines)
    rows = [line["rows/turned"] for line in lines if "rows/turned" in line]
    assert any(before == after for before, after in pairwise(rows)), rows
    assert not [name for name in last(run)["state_dict"] if name.startswith("transfer")]


def test_a_resumed_student_has_the_very_same_weights(
    options: list[str], run: Path, tmp_path: Path
) -> None:
    assert fit([*options, f"run_dir={tmp_path / 'paused'}", "pause_after=1"]) == 0
    assert fit([f"resume={tmp_path / 'paused'}"]) == 0
    torch.testing.assert_close(
        last(tmp_path / "paused")["state_dict"], last(run)["state_dict"], rtol=0, atol=0
    )
