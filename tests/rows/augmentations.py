"""Rows of augmentations of images."""

from __future__ import annotations

from tests.rows.row import Row

# given: shape of the images; expected: whether all of them look another way
AUGMENTATIONS = tuple(
    Row("augment", option, (5, 3, 16, 16), every, train=(f"data.image.augment={option}",))
    for option, every in (
        ("flip", False),
        ("flip_crop", False),
        ("photo", True),
        ("rand", False),
        ("trivial", False),
    )
)
