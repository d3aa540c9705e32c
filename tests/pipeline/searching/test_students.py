"""What a student is shaped like under limits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.searching.context import SearchContext
from pipeline.searching.library import Answers
from pipeline.searching.outcome import Limits, Selected
from pipeline.searching.plan import SearchPlan, Trial
from pipeline.searching.request import recipe_config
from pipeline.searching.students import narrow_shapes, narrower, student_shape
from pipeline.studies.plan import MultiTaskFacts, TaskFacts
from tests.pipeline.searching.test_limits import TARGET, TASKS, right
from tests.pipeline.studies.text_shop import SMALL, write_shop


def search(base: list[str], **limits: Any) -> SearchContext:
    tasks = {name: TaskFacts(["notes"], ["text"], "accuracy", True) for name in ("mood", "speed")}
    facts = MultiTaskFacts(tasks, {"notes": 8}, 8, 2, 4, {}, False)
    trials = {
        name: Trial(name, "joint" if name == "joint" else "drawn", list(tasks), [], 2)
        for name in ("joint", "drawn-001", "drawn-002")
    }
    plan = SearchPlan("s", 0, [], base, [], "", [], facts, 2, trials)
    known = {"max_parameters": None, "max_latency_ms": None, "allow_targets": [], **limits}
    return cast("SearchContext", SimpleNamespace(plan=plan, want=SimpleNamespace(config=known)))


def selected(**costs: tuple[int, float]) -> Selected:
    outputs = {
        "joint": right(0.9, 0), "drawn-001": right(0.6, 1), "drawn-002": right(0.8, 2),
        "linear": right(1.0, 3),
    }  # fmt: skip
    own = {name.replace("_", "-"): cost for name, cost in costs.items()}
    valid = {"mood": Answers(outputs, TARGET)}
    tasks = {"mood": TASKS["mood"]}
    return cast("Selected", SimpleNamespace(costs=own, valid=valid, tasks=tasks))


def test_it_is_the_best_network_that_keeps_the_limits() -> None:
    known = selected(joint=(90, 9.0), drawn_001=(10, 1.0), drawn_002=(20, 2.0), linear=(1, 0.1))
    assert student_shape(search([]), known).name == "joint"  # no limit
    assert student_shape(search([], max_parameters=30), known).name == "drawn-002"
    assert student_shape(search([], max_latency_ms=1.5), known).name == "drawn-001"


@pytest.mark.parametrize("limit", [{"max_parameters": 2_000}, {"max_latency_ms": 1e6}])
def test_else_it_is_the_widest_recipe_that_does(
    limit: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    base = [*SMALL, "dim=32", "encoder.text.width=32", "data.text.vocab_size=300"]
    context = search(base, **limit)
    (found,) = narrow_shapes(context, Limits(context.want.config))
    kept = int(found.overrides[0].removeprefix("dim="))
    assert kept == 24 if "max_latency_ms" in limit else 4 <= kept < 24
    config = recipe_config(context.plan, None, found.overrides)
    assert config["dim"] == kept and config["encoder"]["text"]["width"] == kept
    assert found.recipe is None and found.epochs == 2


def test_widths_are_those_of_what_is_read() -> None:
    recipe = {"dim": 130, "encoder": {"text": {"width": 64}, "image": {"model": "x"}}}
    assert narrower(recipe, 0.5) == {"dim": 64, "encoder.text.width": 32}
    assert narrower(recipe, 0.01) == {"dim": 4, "encoder.text.width": 4}
