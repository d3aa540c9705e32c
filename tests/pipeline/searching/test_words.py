"""What a search says of its outcome: the verdict and the tables."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from pipeline.searching.console import print_leaders
from pipeline.searching.gains import Gain
from pipeline.searching.library import LINEAR
from pipeline.searching.outcome import ENSEMBLE, STUDENT, Candidate, Outcome
from pipeline.searching.plan import Trial
from pipeline.searching.report import difference, verdict
from pipeline.searching.selection import Selection

GAIN = Gain(0.05, 0.01, 0.09)


def outcome(
    weights: Mapping[str, Mapping[str, float]], student: bool = False, tested: bool = True
) -> Outcome:
    """What came of a search of some tasks: {task: {model: share}}."""
    tasks = list(weights)
    scores = dict.fromkeys(tasks, 0.75)
    test = scores if tested else {}
    folders = [ENSEMBLE, STUDENT] if student else [ENSEMBLE]
    candidates = [Candidate(one, Path(one), scores, test, 134_000, 0.42) for one in folders]
    names = ["joint", LINEAR, *(f"alone-{task}" for task in tasks if len(tasks) > 1)]
    gains = {
        task: {
            word: GAIN for word in ("alone", "joint", LINEAR) if word != "alone" or len(tasks) > 1
        }
        for task in tasks
        if tested
    }
    return Outcome(
        scores={name: {"valid": scores, "test": test} for name in names},
        seconds=dict.fromkeys(names, 25.0),
        parameters=dict.fromkeys(names, 134_000),
        selections={task: Selection(own, 0.75, 0.74) for task, own in weights.items()},
        candidates=candidates,
        chosen=candidates[-1],
        gains=gains,
        notes=[],
    )


def said(found: Outcome) -> str:
    return "\n".join(verdict(found, {}))


def printed(found: Outcome, width: int = 80) -> str:
    file = io.StringIO()
    print_leaders(Console(file=file, width=width), found)
    return file.getvalue()


def test_models_together_are_told_by_task() -> None:
    text = said(outcome({"mood": {"joint": 0.25, "linear": 0.75}, "tone": {"alone-tone": 1.0}}))
    assert text.startswith(
        "the best model is 3 models together: on test rows +5.0 points over each"
    )
    assert "`mood` is answered by linear (75%) and joint (25%); on test rows +5.0 (" in text
    assert "`tone` is answered by alone-tone; on test rows +5.0 (+1.0 to +9.0) over one net" in text
    assert "it has 134 k weights and takes 0.4 ms a row on this machine" in text


def test_what_answers_isn_t_compared_with_itself() -> None:
    text = said(outcome({"mood": {"linear": 1.0}, "tone": {"linear": 1.0}}))
    assert text.startswith("the best model is the linear model: on test rows")
    assert "over a linear model" not in text and "100%" not in text


def test_of_one_task_there_is_no_mean_and_no_network_of_all() -> None:
    text = said(outcome({"mood": {"drawn-001": 1.0}}))
    assert text.startswith("the best model is one network, drawn-001\n`mood` is answered by drawn")
    assert "mean" not in text and "for all" not in text and "its own network" not in text
    assert "over the network of the recipe" in text


def test_without_test_labels_nothing_is_claimed() -> None:
    found = outcome({"mood": {"joint": 1.0}, "tone": {"linear": 1.0}}, tested=False)
    assert "no test row has its label, so what it gains isn't known" in said(found)
    assert "points" not in said(found) and "on test" not in printed(found)


def test_a_student_is_named_and_compared_with_its_ensemble() -> None:
    text = said(outcome({"mood": {"joint": 0.5, "linear": 0.5}, "tone": {"linear": 1.0}}, True))
    assert text.startswith("the best model is the student, one network that learnt from the ense")
    assert "`mood` is answered by the student; on test rows" in text
    assert "the ensemble, in ensemble, scores +0.0 points on validation in comparison" in text


def test_the_page_says_what_a_trial_has_other_than_the_recipe() -> None:
    trial = Trial("drawn-001", "drawn", ["mood"], ["dim=6"], 4, "joint")
    assert difference(trial, 2) == "dim=6 trainer.max_epochs=4 from joint"
    assert difference(trial, 4) == "dim=6 from joint"


def test_tables_fit_into_the_terminal() -> None:
    for tasks in (["mood", "tone"], [f"task_number_{n}" for n in range(20)]):
        text = printed(outcome({task: {"linear": 1.0} for task in tasks}))
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        assert sum(line.startswith("joint ") for line in lines) == 2  # validation, then test
        assert ("mood" in text) == (len(tasks) == 2) and ("mean" in text) == (len(tasks) > 2)
        assert "ensemble *" in text
