"""What a search draws, and how a draw becomes a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from pipeline.configuration.composition import compose
from pipeline.configuration.space_rules import is_common, seconds_of
from pipeline.searching.draws import DATABASE, Told, draw, keep, name_of, unused_names
from pipeline.searching.space import Space, reading, space_of
from pollinate.errors import UsageError

RECIPE = {"optimizer": {"lr": 0.001}, "dim": 128, "trainer": {"max_epochs": 4}, "trunk": {"x": 1}}
KEYS: dict[str, Any] = {
    "optimizer.lr": {"times": [0.5, 2.0]},
    "dim": {"times": [0.5, 2.0]},
    "trunk": [None, "mmoe"],
    "optimizer.weight_decay": {"low": 1e-4, "high": 0.1, "log": True},
}
GROUPS = {"all": ["a", "b"], "a": ["a"]}
OWN: dict[str | None, Any] = {None: RECIPE}


def space() -> Space:
    return space_of({"keys": KEYS, "present": False}, OWN, GROUPS)


def test_factors_are_of_the_recipe() -> None:
    drawn = {"optimizer.lr": 1.23456, "dim": 0.7, "trunk": None, "tasks": "a"}
    assert space().overrides(drawn) == ["optimizer.lr=0.00123", "dim=90"]
    assert space().tasks(drawn) == ["a"]
    assert space().overrides({"trunk": "mmoe"}) == ["trunk=mmoe"]


def test_a_group_may_start_from_the_model_of_all_tasks() -> None:
    found = space_of({"keys": KEYS, "present": False}, OWN, GROUPS, {None: "joint"})
    drawn = {"optimizer.lr": 2.0, "dim": 0.5, "trunk": "mmoe", "start": "joint"}
    assert "start" in found.distributions()
    assert found.source({**drawn, "tasks": "a"}) == "joint"
    assert found.overrides({**drawn, "tasks": "a"}) == ["optimizer.lr=0.002"]  # its shapes stay
    assert found.source({**drawn, "tasks": "all"}) is None
    assert len(found.overrides({**drawn, "tasks": "all"})) == 3
    assert space().source({"tasks": "a"}) is None


def test_a_draw_is_of_one_recipe_and_has_its_keys_alone() -> None:
    small = {**RECIPE, "dim": 10, "encoder": {"text": {"dropout": 0.5}}}
    both: dict[str | None, Any] = {None: {**RECIPE, "encoder": {"text": {}}}, "fast": small}
    keys = {"dim": KEYS["dim"], "encoder.text.dropout": [0.3, 0.8]}
    starts = {None: "joint", "fast": "joint-fast"}
    found = space_of({"keys": keys, "present": True}, both, GROUPS, starts)
    assert found.distributions()["recipe"].choices == (None, "fast")
    drawn = {"dim": 2.0, "encoder.text.dropout": 0.3, "tasks": "all"}
    assert found.overrides({**drawn, "recipe": None}) == ["dim=256"]
    fast = {**drawn, "recipe": "fast"}
    assert found.overrides(fast) == ["dim=20", "encoder.text.dropout=0.3"]
    assert found.recipe(fast) == "fast" and found.recipe(drawn) is None
    started = {**fast, "tasks": "a", "start": "joint"}
    assert found.source(started) == "joint-fast"  # of its own shapes
    assert found.source({**started, "recipe": None}) == "joint"
    assert "recipe" not in space().distributions()


def test_branches_are_merged_for_a_task_among_several() -> None:
    config = {"keys": KEYS, "present": False, "transfers": ["init", "fork_merge"]}
    found = space_of(config, OWN, GROUPS, {None: "joint"})
    assert found.distributions()["fork_merge"].choices == (None, "a", "b")
    assert found.target({"fork_merge": "a", "tasks": "all"}) == "a"
    assert found.target({"fork_merge": None, "tasks": "all"}) is None
    alone = {"fork_merge": "a", "tasks": "a", "start": "joint"}
    assert found.target(alone) is None and found.source(alone) == "joint"
    assert found.source({**alone, "fork_merge": None}) == "joint"
    one = space_of(config, OWN, {"all": ["a"]})
    assert not one.merges and "fork_merge" not in one.distributions()
    merged = space_of({**config, "transfers": ["fork_merge"]}, OWN, GROUPS, {None: "joint"})
    assert "start" not in merged.distributions()


def test_what_can_t_be_run_is_drawn_again() -> None:
    found = draw(space(), {}, 4, seed=3, wanted=lambda one: one["tasks"] == "a")
    assert len(found) == 4 and {one["tasks"] for one in found} == {"a"}
    assert draw(space(), {}, 4, seed=3, wanted=lambda _: False) == []


def test_a_key_that_no_run_has_is_named() -> None:
    for present in (True, False):
        config = {"keys": {"optimiser.lr": [0.1]}, "present": present}
        with pytest.raises(UsageError, match=r"space.keys has the unknown key optimiser.lr"):
            space_of(config, OWN, GROUPS)


def test_what_is_answered_doesn_t_differ() -> None:
    common = ("data.text.max_length", "data/shop", "tasks", "data.tasks.mood.target", "seed")
    assert all(map(is_common, common))
    assert not any(map(is_common, ("data.tasks.mood.weight", "optimizer.lr", "encoder/text")))


def test_encoders_of_what_no_task_reads_aren_t_drawn() -> None:
    recipe = {**RECIPE, "encoder": {"text": {"width": 64}, "image": {"width": 32}}}
    keys = {f"encoder.{name}.width": {"times": [0.5, 2.0]} for name in ("text", "image")}
    found = space_of({"keys": keys, "present": True}, {None: reading(recipe, {"text"})}, GROUPS)
    assert list(found.values) == ["encoder.text.width"]


def test_keys_that_the_recipe_lacks_can_be_left_out() -> None:
    found = space_of({"keys": KEYS, "present": True}, OWN, GROUPS)
    assert list(found.values) == ["optimizer.lr", "dim", "trunk"]
    with pytest.raises(UsageError, match=r"space.keys.trunk are factors, and the recipe's trunk"):
        space_of({"keys": {"trunk": {"times": [1, 2]}}, "present": False}, OWN, GROUPS)


def test_draws_depend_on_what_was_told_alone() -> None:
    told = {
        name_of(n): Told(one, {4: 0.1 * n}, 0.1 * n)
        for n, one in enumerate(draw(space(), {}, 8, seed=3))
    }
    assert draw(space(), told, 3, seed=5) == draw(space(), told, 3, seed=5)
    assert draw(space(), told, 3, seed=5) != draw(space(), told, 3, seed=6)
    first = draw(space(), told, 3, seed=5)
    assert len({str(one) for one in first}) == 3
    assert all(0.5 <= one["optimizer.lr"] <= 2 and one["tasks"] in GROUPS for one in first)


def test_no_trial_gets_the_name_of_another() -> None:
    names = unused_names({"joint", "drawn-002"})  # of three that were drawn, two were too long
    assert [next(names) for _ in range(3)] == ["drawn-001", "drawn-003", "drawn-004"]


def test_optuna_goes_where_it_is_good() -> None:
    told: dict[str, Told] = {}
    for turn in range(12):
        for one in draw(space(), told, 2, seed=turn):
            quality = -abs(one["optimizer.lr"] - 1.8) + (0.5 if one["trunk"] == "mmoe" else 0.0)
            told[name_of(len(told))] = Told(one, value=quality)
    late = [one.drawn for one in list(told.values())[-8:]]
    assert sum(one["trunk"] == "mmoe" for one in late) >= 6
    assert sum(one["optimizer.lr"] for one in late) / 8 > 1.4


def test_optunas_own_tools_see_the_trials(tmp_path: Path) -> None:
    drawn = draw(space(), {}, 3, seed=1)
    told = {
        "drawn-001": Told(drawn[0], {1: 0.1, 4: 0.2}, 0.2),
        "drawn-002": Told(drawn[1], {1: 0.0}),
        "drawn-003": Told(drawn[2], failed=True),
    }
    keep(tmp_path, "search", space(), told)
    keep(tmp_path, "search", space(), told)  # none twice
    kept = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / DATABASE}")
    assert [trial.state.name for trial in kept.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert kept.trials[0].intermediate_values == {1: 0.1, 4: 0.2}
    assert kept.best_value == 0.2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1.5h", 5400), ("2d", 172_800), ("30 m", 1800), ("30", None), ("0s", None)],
)
def test_times_have_units(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["time_limit=30"], "time_limit must be a time with its unit, such as 90s, 30m or 8h"),
        (["space.keys.dim.times=[2,1]"], "space.keys.dim must be {times: [low, high]}"),
        (["space.keys.data.text.wide=[true]"], "data.text.wide can't differ between the models"),
        (["space.keys.dim=[]"], "space.keys.dim must be a list of choices"),
        (["max_latency_ms=0"], "max_latency_ms must be > 0 milliseconds"),
        (["space=usuall"], "usual"),
        (["space.presets=[best]"], 'space.presets must be of fast, good, got ["best"]'),
        (["space.transfers=[]"], "space.transfers must be one or more of init, fork_merge"),
        (["rungs=0"], "rungs must be >= 1 comparisons, got 0"),
    ],
)
def test_what_a_search_refuses(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=r".") as caught:
        compose("search", words)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("word", "key", "values"),
    [
        ("space.keys.dim=[8,16]", "dim", [8, 16]),  # in place of factors
        ("space.keys.dim={low: 8, high: 16}", "dim", {"low": 8, "high": 16}),
        ("space.keys={dim: {low: 8, high: 16}}", "dim", {"low": 8, "high": 16}),
        ("space.keys.trunk={times: [1, 2]}", "trunk", {"times": [1, 2]}),  # in place of choices
    ],
)
def test_values_on_the_command_line_replace_those_of_a_file(
    word: str, key: str, values: Any
) -> None:
    assert compose("search", [word])["space"]["keys"][key] == values
