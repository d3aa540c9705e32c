"""Names of sources and methods, which become names of parts of a network."""

from __future__ import annotations

import pytest

from pipeline.config import compose
from pipeline.configuration.reserved_names import RESERVED
from pipeline.configuration.transfer_rules import transfer_problems
from pipeline.errors import UsageError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["transfer=source_attention", "transfer.sources={a.b: runs/a}"],
            'transfer.sources: a name must not be empty and has no dot, got "a.b"',
        ),
        (
            ["transfer=weighted_fusion", "transfer.sources={type: runs/a}"],
            "transfer.sources: 'type' is reserved by PyTorch's containers; choose another name",
        ),
        (
            ["transfer=several", "transfer.methods={keys: {name: init, source: runs/a}}"],
            "transfer.methods: 'keys' is reserved",
        ),
        (
            ["transfer=several", "transfer.methods={a.b: {name: init, source: runs/a}}"],
            'transfer.methods: a name must not be empty and has no dot, got "a.b"',
        ),
        (
            ["transfer=annealed", "transfer.method={name: several, methods: {pop: none}}"],
            "transfer.method.methods: 'pop' is reserved",
        ),
    ],
)
def test_a_name_that_no_part_can_have(given: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        compose("fit", given)
    assert message in str(error.value)


def test_other_names_are_the_users_own() -> None:
    assert not list(transfer_problems({"sources": {"sst-2": "runs/a", "größe 1": "runs/b"}}))
    assert list(transfer_problems({"sources": dict.fromkeys(RESERVED, "runs/a")}))


def test_annealing_of_nothing_is_no_method() -> None:
    with pytest.raises(UsageError, match=r"transfer.method is missing; set transfer.method=VALUE"):
        compose("fit", ["transfer=annealed"])
