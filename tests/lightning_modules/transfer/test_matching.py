"""Weights find their counterparts by name."""

from __future__ import annotations

import pytest
from torch import Size

from lightning_modules.transfer.matching import counterpart, match, parts_of, plain

SMALL, LARGE = Size([2]), Size([3])


def test_names_and_shapes_decide() -> None:
    here = {"trunk.a": SMALL, "trunk.b": SMALL, "trunk.c": SMALL}
    found = match(here, {"trunk.a": SMALL, "trunk.b": LARGE, "heads.x": SMALL}, {})
    assert found.taken == {"trunk.a": "trunk.a"}
    assert found.wrong == {"trunk.b": (LARGE, SMALL)}
    assert found.absent == ["trunk.c"]
    assert found.unused == ["heads.x"]


@pytest.mark.parametrize(
    ("name", "renamed", "expected"),
    [
        ("trunk.a", {}, "trunk.a"),
        ("trunk.a", {"trunk": "body"}, "body.a"),
        ("trunks.a", {"trunk": "body"}, "trunks.a"),
        ("heads.a.w", {"heads": "tops", "heads.a": "last"}, "last.w"),
        ("encoders.text.network.a", {"encoders.text.network": ""}, "a"),
        ("a", {"": "bert"}, "bert.a"),
    ],
)
def test_the_longest_part_renames(name: str, renamed: dict[str, str], expected: str) -> None:
    assert counterpart(name, renamed) == expected


@pytest.mark.parametrize(
    ("wrapped", "expected"),
    [
        ("query.base_layer.weight", "query.weight"),
        ("query.lora_A.default.weight", "query.lora_A.weight"),
        ("base_model.model.query.lora_A.weight", "query.lora_A.weight"),
        ("query.lora_magnitude_vector.default.weight", "query.lora_magnitude_vector"),
        ("base_model.model.query.lora_magnitude_vector", "query.lora_magnitude_vector"),
        ("default.bias", "default.bias"),
    ],
)
def test_adapters_wrap_no_name(wrapped: str, expected: str) -> None:
    assert plain(wrapped) == expected


def test_parts_of_a_network() -> None:
    names = ["trunk.a.b", "encoders.text.token.weight", "heads.digit.weight", "trunk.c"]
    assert parts_of(names) == ["encoders.text", "heads.digit", "trunk"]
