"""A class called without options is what its YAML file shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.configuration.signatures import find_class
from pollinate.instantiate import find_target
from pollinate.namespaces import resolve
from pollinate.recipes import TARGET, defaults, parameters
from tests.rows.row import slot

CONFIGS = Path(__file__).parents[2] / "configs"
# what a file says on purpose that the class doesn't: another use, a choice to search over, or a
# place and names that only a run has
OWN = {
    ("merging.Dare", "scale"),
    ("merging.IsoC", "scale"),
    ("merging.TaskArithmetic", "scale"),
    ("merging.TSVM", "scale"),
    ("merging.Ties", "scale"),
    ("sources.Csv", "delimiter"),
    ("balancers.CRMOGM", "method"),
    ("transfer.ForkMerge", "search"),
    ("transfer.Several", "methods"),
    *(("tracking.MLflowRunLogger", key) for key in ("uri", "experiment", "register")),
    ("tracking.MLflowRunLogger", "system_seconds"),
}


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if TARGET in value and resolve(value[TARGET]):
            yield value
        for one in value.values():
            yield from nodes(one)


def options() -> Iterator[tuple[str, str, str, Any]]:
    for path in sorted(CONFIGS.rglob("*.yaml")):
        for node in nodes(yaml.safe_load(path.read_text(encoding="utf-8"))):
            for name, value in node.items():
                open_value = isinstance(value, str) and (value.startswith("${") or value == "???")
                if name not in (TARGET, "_requires_", "tune") and not open_value:
                    yield path.relative_to(CONFIGS).as_posix(), node[TARGET], name, value


@pytest.mark.parametrize(("path", "target", "name", "value"), list(options()))
def test_an_option_has_the_default_that_its_file_shows(
    path: str, target: str, name: str, value: Any
) -> None:
    assert find_class(target) is not None
    if (target.removeprefix("pollinate."), name) in OWN:
        return
    own = defaults(parameters(find_target(target, (), slot(path.rpartition("/")[0]))))
    assert name in own
    shown = list(own[name]) if isinstance(own[name], tuple) else own[name]
    assert shown == value or (not shown and not value)
