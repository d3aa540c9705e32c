"""What is compared, at the same budget."""

from __future__ import annotations

from itertools import starmap
from pathlib import Path
from typing import Any

import pytest

from pipeline.studies.arms import arms_of, expected_seconds, rows_per_step
from pipeline.studies.jobs import JobContext
from pipeline.studies.overrides import combined, study_overrides, trial_overrides
from pipeline.studies.plan import TaskFacts, limited_steps, load_plan, optimizer_steps
from pipeline.studies.results import Arm
from pipeline.studies.trial_files import safe_name
from pipeline.studies.trials import trial_of, trials_of
from pollinate.errors import UsageError
from tests.pipeline.studies.plans import facts, node, plan

THREE = ("a", "b", "c")


def arms(known: Any = None, **options: Any) -> dict[str, Arm]:
    return arms_of(node(**options), known or facts())


def test_single_task_runs_and_a_multi_task_run() -> None:
    found = arms()
    assert list(found) == ["single_task:a", "single_task:b", "multi_task"]
    assert found["single_task:a"].overrides == (
        "balancer=equal",
        "tasks=[a]",
        "sampler.batch_size=8",
        "sampler.steps_per_epoch=5",
    )
    assert found["multi_task"].overrides == (
        "tasks=[a,b]",
        "sampler.batch_size=16",
        "sampler.steps_per_epoch=5",
    )


def test_a_budget_in_steps_gives_everyone_full_batches() -> None:
    assert "sampler.batch_size=16" in arms(budget="steps")["single_task:a"].overrides


def test_single_task_runs_together_take_the_rows_of_the_multi_task_run() -> None:
    known = facts(THREE, rows={"of_a": 5, "of_b": 7, "of_c": 11})
    own = [rows_per_step((name,), known, "rows") for name in THREE]
    assert sum(own) == rows_per_step(THREE, known, "rows") == 23


def test_tasks_of_one_data_set_count_its_rows_once() -> None:
    one = TaskFacts(["of_a"], ["text"], "accuracy", True)
    known = facts(("a",), rows={"of_a": 8}, evaluated={"of_a": 1})
    known.tasks["b"] = one
    assert rows_per_step(("a", "b"), known, "rows") == 8


def test_pairs_of_all_tasks_and_of_some() -> None:
    known = facts(THREE)
    assert [n for n in arms(known, pairs="all") if n.startswith("pair")] == [
        "pair:a+b",
        "pair:a+c",
        "pair:b+c",
    ]
    found = arms(known, pairs=[["c", "a"], ["a", "c"]], single_task=False, multi_task=False)
    assert list(found) == ["pair:a+c"]


def test_a_pair_with_weights_makes_each_task_the_source() -> None:
    found = arms(pairs="all", pair_weights=[1.0, 0.5], single_task=False, multi_task=False)
    assert list(found) == ["pair:a+b", "pair:a+0.5*b", "pair:0.5*a+b"]
    arm = found["pair:a+0.5*b"]
    assert arm.weights == (("a", 1.0), ("b", 0.5))
    assert arm.overrides[:2] == ("balancer=fixed", "balancer.task_weights={a:1.0,b:0.5}")


def test_groups_are_in_the_order_of_the_data() -> None:
    assert "group:a+c" in arms(facts(THREE), groups=[["c", "a"]])


def test_fewer_labels_for_single_task_multi_task_variants_and_transfers() -> None:
    found = arms(
        label_fractions=[0.3, 0.1],
        variants={"up": "balancer=upgrad"},
        pairs="all",
        transfers=[["a", "b"]],
    )
    few = [name for name in found if name.endswith("@0.1")]
    assert few == [
        "single_task:a@0.1",
        "single_task:b@0.1",
        "multi_task@0.1",
        "up@0.1",
        "transfer:a>b@0.1",
    ]
    assert found["multi_task@0.1"].labels == 0.1
    assert "label_fraction=0.1" in found["multi_task@0.1"].overrides


def test_a_transfer_begins_from_the_source_of_its_seed(tmp_path: Path) -> None:
    made = plan(seeds=[4], transfers=[["a", "b"]], label_fractions=[0.1])
    own = trial_of(made, JobContext(tmp_path), made.arms["transfer:a>b@0.1"], 4).overrides()
    source = tmp_path / "trials" / "single_task-a" / "seed-4"
    assert f"transfer.source={source}" in own
    assert f"data.text.tokenizer={source}" in own
    assert "transfer.parts=[encoders.text,trunk]" in own


def test_all_transfers_are_those_that_read_something_alike() -> None:
    known = facts(THREE)
    known.tasks["c"] = TaskFacts(["of_c"], ["image"], "accuracy", True)
    found = [n for n in arms(known, transfers="all") if n.startswith("transfer")]
    assert found == ["transfer:a>b", "transfer:b>a"]
    with pytest.raises(UsageError, match="a reads text and c image, so no encoder"):
        arms(known, transfers=[["a", "c"]])


def test_later_overrides_win_and_take_other_methods_options_away() -> None:
    base = ["balancer=cagrad", "balancer.c=0.4", "dim=8", "trainer=ddp", "trainer.max_steps=3"]
    found = combined(base, ["balancer=upgrad", "trainer=default", "dim=16"])
    assert found == ["trainer.max_steps=3", "balancer=upgrad", "trainer=default", "dim=16"]
    assert combined(["encoder/text=gru", "encoder.text.width=8"], ["encoder/text=bag"]) == [
        "encoder/text=bag"
    ]
    shared = ["tracking.uri=sqlite:///x.db", "sampler.temperature=3", "sampler.batch_size=8"]
    found = combined(shared, ["tracking=none", "sampler=fixed"])
    assert found == ["sampler.batch_size=8", "tracking=none", "sampler=fixed"]
    assert combined(["tracking.uri=a"], ["tracking=mlflow"]) == [
        "tracking.uri=a",
        "tracking=mlflow",
    ]


def test_trials_get_what_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").touch()
    given = [
        "data=shop.yaml",
        "study=pairs",
        "study.groups=[[a,b]]",
        "seeds=[1]",
        "jobs=2",
        "dim=8",
    ]
    given += ["run_dir=x", "name=n", "timeout=3"]
    assert trial_overrides(given) == [f"data={tmp_path / 'shop.yaml'}", "dim=8"]
    assert {"study=pairs", "seeds=[1]", "name=n", "jobs=2"} < set(study_overrides(given))


NAMES = {
    "single_task:digit": "single_task-digit",
    "pair:a+0.5*b": "pair-a+0.5xb",
    "transfer:a>b@0.1": "transfer-a-to-b-0.1",
}


def test_names_of_folders_are_safe() -> None:
    assert {name: safe_name(name) for name in NAMES} == NAMES


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({"max_epochs": 3}, 30),
        ({"max_epochs": 3, "accumulate_grad_batches": 4}, 9),
        ({"max_epochs": 3, "max_steps": 7}, 7),
        ({"max_steps": 7, "max_epochs": None}, 7),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 10),
        ({"max_epochs": 2, "limit_train_batches": 4}, 8),
    ],
)
def test_optimizer_steps(trainer: dict[str, Any], steps: int) -> None:
    assert optimizer_steps(trainer, 10) == steps


def test_a_limit_of_one_is_a_step_and_of_1_0_is_all() -> None:
    assert list(starmap(limited_steps, [(9, 1), (9, 1.0), (9, None)])) == [1, 9, 9]


def test_seconds_count_rows() -> None:
    known = facts(step=1.6, start=2.0)  # 0.1 s a row
    own = arms(known)["single_task:a"]
    assert expected_seconds(own, known, "rows") == pytest.approx(2 + 0.1 * (10 * 8 + 30 / 3))
    assert expected_seconds(own, facts(step=None), "rows") is None


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    made = plan(transfers="all", pairs="all", pair_weights=[0.5], label_fractions=[0.1])
    made.save(tmp_path)
    assert load_plan(tmp_path) == made
    assert load_plan(tmp_path / "elsewhere") is None


def test_trials_go_seed_by_seed(tmp_path: Path) -> None:
    titles = [trial.title for trial in trials_of(plan(), JobContext(tmp_path))]
    assert titles[:3] == [
        "multi_task, seed 0",
        "single_task:a, seed 0",
        "single_task:b, seed 0",
    ]  # longest first
