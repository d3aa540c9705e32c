from __future__ import annotations

import pytest

from pollinate.errors import UsageError
from pollinate.suggest import SHOWN, did_you_mean, hint, listing, nearest, raise_all, shown


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("sed", ["seed", "dim"], "seed"),
        ("SEED", ["seed"], "seed"),
        ("adamw", ["AdamW", "Adam"], "AdamW"),
        ("max_epochs", ["seed", "trainer.max_epochs"], "trainer.max_epochs"),
        ("zzz", ["seed"], None),
        ("a", [], None),
    ],
)
def test_nearest(name: str, allowed: list[str], expected: str | None) -> None:
    assert nearest(name, allowed) == expected


def test_messages() -> None:
    assert did_you_mean("sed", ["seed"]) == "; did you mean seed?"
    assert did_you_mean("zzz", ["seed"]) == ""
    assert hint("sed", iter(["seed", "dim"]), "keys") == "; did you mean seed? keys: seed, dim"
    assert hint("zzz", ["seed"], "keys") == "; keys: seed"
    assert listing([]) == "none"
    assert listing("x" for _ in range(SHOWN + 3)).endswith("x and 3 more")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        ("ä", '"ä"'),
        ([1, None], "[1, null]"),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_shown(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_raise_problems() -> None:
    raise_all([])
    with pytest.raises(UsageError, match=r"^a$"):
        raise_all(["a"])
    with pytest.raises(UsageError) as caught:
        raise_all(["a", "b", "c"], most=2)
    assert str(caught.value) == "3 problems in the configuration\n  - a\n  - b\n  and 1 more"
