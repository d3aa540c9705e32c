"""The digest tells two data sets apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datamodules.table import columns_digest, take


def large_image(pixel: int) -> np.ndarray:
    image = np.zeros((64, 64), dtype=np.uint8)
    image[30, 30] = pixel
    return image


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}),
        ({"a": ["x"]}, {"b": ["x"]}),
        ({"a": [1, 2]}, {"a": [12]}),
        ({"a": [None]}, {"a": [""]}),
        ({"a": np.array([1, 2])}, {"a": np.array([1, 3])}),
        ({"a": large_image(0)[None]}, {"a": large_image(1)[None]}),
        ({"a": [large_image(0)]}, {"a": [large_image(1)]}),
    ],
)
def test_other_content_has_another_digest(one: Any, other: Any) -> None:
    assert columns_digest(one) != columns_digest(other)


def test_order_of_columns_does_not_matter() -> None:
    assert columns_digest({"a": [1], "b": [2]}) == columns_digest({"b": [2], "a": [1]})


def test_digest_does_not_see_the_memory_layout() -> None:
    array = np.arange(6).reshape(2, 3)
    assert columns_digest({"a": array}) == columns_digest({"a": np.asfortranarray(array)})


def test_take_keeps_the_kind() -> None:
    rows = np.array([2, 0])
    assert take(["x", "y", "z"], rows) == ["z", "x"]
    assert np.array_equal(take(np.array([5, 6, 7]), rows), [7, 5])
