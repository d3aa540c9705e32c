from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import pytest

from pipeline.configuration import schema
from pipeline.configuration.schema import SCHEMAS
from tests.pipeline.conftest import Fit


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        # unknown keys: the key, the value, the nearest right name, what is allowed
        ("sed=1", ["unknown key sed=1", "did you mean seed?", "allowed: name, seed"]),
        ("max_epochs=5", ["did you mean trainer.max_epochs?"]),
        ("max_steps=5", ["did you mean trainer.max_steps?"]),
        ("depth=2", ["did you mean encoder.audio.depth?"]),
        ("balncer=equal", ['unknown key balncer="equal"', "did you mean balancer?"]),
        ("loader.worker=2", ["unknown key loader.worker=2", "did you mean loader.workers?"]),
        ("data.image.sise=3", ["unknown key data.image.sise=3", "did you mean data.image.size?"]),
        # types
        ("seed=abc", ['seed must be int, got "abc"']),
        ("seed=true", ["seed must be int, got true"]),
        ("seed=1.5", ["seed must be int, got 1.5"]),
        ("seed=null", ["seed must be int, got null"]),
        ("seed.x=1", ['seed must be int, got {"x": 1}']),
        ("compile=1", ["compile must be bool, got 1"]),
        ("name=[1]", ["name must be str, got [1]"]),
        ("loader.workers=1.0", ["loader.workers must be int, got 1.0"]),
        ("loader=null", ["loader must be a mapping of workers, pin_memory, got null"]),
        ("ema_decay=high", ['ema_decay must be float | null, got "high"']),
        ("trunk=null", ["trunk is missing; set trunk=OPTION"]),
        ("encoder.text=3", ["encoder.text must be an option of its group, got 3"]),
        ("encoder.text={a:1}", ["unknown option encoder.text.a=1"]),
        ("data.image.size=[a,b]", ["data.image.size must be list[int]"]),
        # ranges
        ("seed=-1", ["seed must be >= 0, got -1"]),
        ("dim=0", ["dim must be >= 1, got 0"]),
        ("name=a/b", ['name must be a name without /, got "a/b"']),
        ("name=''", ['name must be a name without /, got ""']),
        ("ema_decay=1", ["ema_decay must be in (0, 1), got 1"]),
        ("ema_decay=0.0", ["ema_decay must be in (0, 1), got 0.0"]),
        ("loader.workers=-1", ["loader.workers must be >= 0, got -1"]),
        ("checkpoint.every_n_steps=0", ["checkpoint.every_n_steps must be >= 1, got 0"]),
        ("checkpoint.mode=mix", ['checkpoint.mode must be one of max, min, got "mix"']),
        ("early_stopping.patience=0", ["early_stopping.patience must be >= 1, got 0"]),
        ("data.image.size=[28]", ["data.image.size must be [height, width]", "got [28]"]),
        # missing values
        ("seed=???", ["seed is missing; set seed=VALUE"]),
        ("~seed", ["seed is missing; set seed=VALUE"]),
        ("trunk.dim=???", ["trunk.dim is missing; set trunk.dim=VALUE"]),
        ("data.tasks.digit.target=???", ["data.tasks.digit.target is missing"]),
    ],
)
def test_problems(fit: Fit, refused: Callable[..., str], override: str, parts: list[str]) -> None:
    message = refused(override)
    assert all(part in message for part in parts), message
    assert "problems" not in message  # one mistake is one message


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("ema_decay=0.99", "ema_decay", 0.99),
        ("ema_decay=null", "ema_decay", None),
        ("early_stopping.min_delta=1", "early_stopping.min_delta", 1),
        ("early_stopping.patience=3", "early_stopping.patience", 3),
        ("seed=0", "seed", 0),
    ],
)
def test_accepted(fit: Fit, override: str, path: str, expected: Any) -> None:
    found: Any = fit(override)
    for key in path.split("."):
        found = found[key]
    assert found == expected
    assert type(found) is type(expected)


def test_all_problems_are_listed(refused: Callable[..., str]) -> None:
    message = refused(
        "seed=-1", "loader.workers=a", "trunk.dept=1", "optimizer.lr=x", "trainer.max_epoch=1"
    )
    assert message.startswith("5 problems in the configuration\n  - ")
    for part in (
        "seed must",
        "loader.workers must",
        "trunk.dept",
        "optimizer.lr must",
        "did you mean max_ep",
    ):
        assert part in message


def test_at_most_ten_problems_are_listed(refused: Callable[..., str]) -> None:
    message = refused(*(f"wrong_{i}=1" for i in range(12)))
    assert message.startswith("12 problems")
    assert message.endswith("and 2 more")


def test_every_key_of_a_command_file_is_in_its_schema() -> None:
    from dataclasses import fields

    from pipeline.configuration.composition import load_yaml
    from pipeline.configuration.groups import SHIPPED

    for command, kind in SCHEMAS.items():
        keys = set(load_yaml(SHIPPED / f"{command}.yaml")) - {"defaults"}
        assert keys <= {item.name for item in fields(kind)}


def test_every_dataclass_of_the_schema_is_a_node_or_a_command() -> None:
    found = {name for name, kind in vars(schema).items() if is_dataclass(kind)}
    assert found == {*schema.NODES, *(kind.__name__ for kind in schema.SCHEMAS.values())}
