"""Raw columns in, tensors of chosen rows out."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.modalities.base import InputStore, Modality
from datamodules.modalities.image import ImageModality, decode_image
from datamodules.modalities.text import TextModality
from datamodules.table import as_text
from pollinate.errors import UsageError
from tests.tiny import pixels, words

COUNT = 6


def text_store(dropout: float = 0.5) -> InputStore:
    modality = TextModality(vocab_size=300, max_length=8, dropout=dropout)
    modality.fit([words(COUNT)])
    return modality.prepare(words(COUNT)).store


def image_store(shift: float = 1.0) -> InputStore:
    return (
        ImageModality([8, 8], channels=1, shift=shift, rotate=0.0, scale=0.0)
        .prepare(pixels(COUNT))
        .store
    )


STORES = {"text": text_store, "image": image_store}
each_store = pytest.mark.parametrize("store", STORES.values(), ids=STORES)


def augmented(
    store: InputStore, rows: list[int], passes: int = 0, seed: int = 0
) -> list[list[float]]:
    """The augmented rows without padding."""
    found = store.augmented(np.array(rows), seed, np.full(len(rows), passes))
    return [[v for v in row.flatten().tolist() if v] for row in found]


@each_store
def test_length_is_the_number_of_rows(store: Any) -> None:
    assert len(store()) == COUNT


@each_store
def test_augmentation_does_not_see_the_other_rows(store: Any) -> None:
    made = store()
    together = augmented(made, list(range(COUNT)))
    assert [augmented(made, [row])[0] for row in range(COUNT)] == together


@each_store
def test_augmentation_is_a_function_of_seed_and_pass(store: Any) -> None:
    made, rows = store(), list(range(COUNT))
    assert augmented(made, rows) == augmented(store(), rows)
    assert augmented(made, rows) != augmented(made, rows, passes=1)
    assert augmented(made, rows) != augmented(made, rows, seed=1)


@each_store
def test_no_augmentation_gives_the_rows(store: Any) -> None:
    made, rows = store(0.0), np.arange(COUNT)
    assert torch.equal(made.augmented(rows, 0, rows * 0), made.rows(rows))


@each_store
def test_no_rows_are_fine(store: Any) -> None:
    made, none = store(), np.arange(0)
    assert len(made.rows(none)) == len(made.augmented(none, 0, none)) == 0


def test_text_is_padded_to_the_longest_chosen_row() -> None:
    store = text_store()
    short, both = store.rows(np.array([0])), store.rows(np.array([0, 4]))
    assert short.shape[1] < both.shape[1] <= 8
    assert torch.equal(both[0, : short.shape[1]], short[0])
    assert not both[0, short.shape[1] :].any()


@pytest.mark.parametrize("value", [None, float("nan"), ""])
def test_an_empty_cell_is_an_empty_text(value: Any) -> None:
    assert as_text(value) == ""


def test_bytes_are_text_in_utf_8() -> None:
    assert as_text("grün".encode()) == "grün"


def test_an_empty_text_has_a_token() -> None:
    modality = TextModality(vocab_size=300, max_length=8)
    modality.fit([["a"]])
    assert modality.prepare([None]).store.rows(np.array([0])).ne(0).sum() == 1


def test_text_state_round_trip() -> None:
    one, other = (TextModality(vocab_size=300, max_length=8) for _ in range(2))
    one.fit([words(20)])
    other.load_state_dict(one.state_dict())
    rows = np.arange(4)
    assert torch.equal(
        one.prepare(words(4)).store.rows(rows), other.prepare(words(4)).store.rows(rows)
    )
    assert one.encoder_arguments() == other.encoder_arguments()


def encoded(image: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def test_arrays_files_and_their_content_are_the_same_image(tmp_path: Path) -> None:
    image = pixels(1)[0]
    (tmp_path / "a.png").write_bytes(encoded(image))
    sources = (image, encoded(image), tmp_path / "a.png", str(tmp_path / "a.png"))
    assert all(np.array_equal(decode_image(source), image) for source in sources)


def test_lists_and_arrays_of_images_are_the_same() -> None:
    modality, rows = ImageModality([4, 4], channels=3), np.arange(COUNT)
    one, other = (modality.prepare(c).store for c in (pixels(COUNT), list(pixels(COUNT))))
    assert torch.equal(one.rows(rows), other.rows(rows))
    assert one.rows(rows).shape == (COUNT, 3, 4, 4)


def test_pixels_are_between_0_and_1() -> None:
    rows = image_store().rows(np.arange(COUNT))
    assert rows.dtype == torch.float32
    assert 0 <= rows.min() < rows.max() <= 1
    assert rows.max() > 0.9


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            TextModality,
            {"vocab_size": 300, "max_length": 0},
            "max_length must be >= 1 token, got 0",
        ),
        (TextModality, {"vocab_size": 300, "max_length": 1, "dropout": 1}, r"in \[0, 1\), got 1"),
        (ImageModality, {"size": [8]}, r"must be \[height, width\], both >= 1, got \[8\]"),
        (ImageModality, {"size": [8, 0]}, r"both >= 1, got \[8, 0\]"),
        (ImageModality, {"size": [8, 8], "channels": 2}, "channels must be 1 or 3, got 2"),
    ],
)
def test_wrong_options_are_refused(kind: type[Modality], options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(**options)
