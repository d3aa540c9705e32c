"""A run reads texts, and knows labels, as another did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datamodules.modalities.text import TextModality
from datamodules.modalities.tokenization import train_bpe
from lightning_modules.checkpoints import SPEC_FORMAT, write_checkpoint
from pipeline.find_checkpoint import inherited_labels, inherited_tokenizer
from pollinate.errors import UsageError

TOKENIZER = train_bpe(["some words", "more words"], 300)


def config(what: Path) -> dict[str, Any]:
    return {"data": {"text": {"tokenizer": str(what)}}}


def write(path: Path, text: dict[str, Any]) -> Path:
    spec = {"format": SPEC_FORMAT, "learnt": {"modalities": text}, "config": {}}
    write_checkpoint({"state_dict": {}, "pollinate": spec}, path)
    return path


def test_of_a_file_and_of_a_checkpoint(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    known = {"text": {"tokenizer": TOKENIZER.to_json()}}
    for place in (tmp_path / "tokenizer.json", write(tmp_path / "a.ckpt", known)):
        assert inherited_tokenizer(config(place)) == TOKENIZER.to_json()


@pytest.mark.parametrize("text", [{}, {"text": {"assets": {"tokenizer": "x"}}}])
def test_a_run_without_one_of_its_own(text: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a run that trained its own tokenizer"):
        inherited_tokenizer(config(write(tmp_path / "a.ckpt", text)))


def test_a_given_tokenizer_is_not_trained() -> None:
    modality = TextModality(500, 8, tokenizer=TOKENIZER.to_json())
    modality.fit([["entirely different"]])
    assert modality.state_dict() == {"tokenizer": TOKENIZER.to_json()}


def test_two_tokenizers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"data.text.tokenizer must be left out"):
        TextModality(500, 8, assets={"tokenizer": "x"}, tokenizer=TOKENIZER.to_json())


TYPE = "pollinate.tasks.Classification"


def asking(run: Path, task: str, target: str = TYPE) -> dict[str, Any]:
    node = {"type": {"_target_": target}, "unlabelled": "new", "labels_of": str(run)}
    return {"data": {"tasks": {task: node}}}


def write_task(path: Path) -> Path:
    known = {"tasks": {"tone": {"classes": ["no", "yes"], "counts": [1, 2]}}}
    config_there = {"data": {"tasks": {"tone": {"type": {"_target_": TYPE}}}}}
    spec = {"format": SPEC_FORMAT, "learnt": known, "config": config_there}
    write_checkpoint({"state_dict": {}, "pollinate": spec}, path)
    return path


def test_labels_of_another_run(tmp_path: Path) -> None:
    run = write_task(tmp_path / "a.ckpt")
    assert inherited_labels(asking(run, "tone"), "tone") == {
        "classes": ["no", "yes"],
        "counts": [1, 2],
    }


def test_labels_that_the_other_run_does_not_have(tmp_path: Path) -> None:
    run = write_task(tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match="has no task 'tune'; did you mean tone"):
        inherited_labels(asking(run, "tune"), "tune")
    with pytest.raises(UsageError, match=r"data.tasks.tone.type must be that of"):
        inherited_labels(asking(run, "tone", "pollinate.tasks.Ordinal"), "tone")
