"""Where tokens and terms of a text come from: nothing is lost, whatever the text is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.modalities.text import TextModality
from datamodules.modalities.text_pieces import piece_spans, text_pieces
from datamodules.terms import plain_origins, plain_text, term_places, text_terms

STRANGE = [
    "Hello <b>World</b>, it's  a \uff34\uff25\uff33\uff34 \ufb01ne!",
    "İstanbul ΑΣ café e\u0301te",
    "  a\tb ",
    "日本語 text を読む",
    "",
    "<p>",
    "हिन्दी ठीक 👍🏽 ok",
]


@pytest.mark.parametrize("text", STRANGE)
def test_places_have_the_same_terms(text: str) -> None:
    found = term_places(text)
    ((numbers, counts),) = text_terms([text])
    own, times = np.unique(found.numbers, return_counts=True)
    assert (own == numbers).all()
    assert (times == counts).all()
    plain = plain_text(text)
    assert all(
        0 <= start < end <= len(plain) for start, end in zip(found.starts, found.ends, strict=True)
    )


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_plain_characters_come_from_the_text_in_order(text: str) -> None:
    origins = plain_origins(text)
    assert len(origins) == len(plain_text(text))
    assert (np.diff(origins) >= 0).all()
    assert all(0 <= own < len(text) for own in origins)


def test_plain_characters_come_from_where_they_are_written() -> None:
    text = "A <i>Big</i>  DOG"
    assert "".join(text[n] for n in plain_origins(text)).lower() == "a big<dog"
    assert plain_text(text) == "a big dog"


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_terms_are_shared_out_whole(text: str) -> None:
    found = text_pieces(text, np.zeros((0, 2), np.int64))
    occurrences, shares = found.terms()
    assert shares.shape == (len(occurrences.numbers), len(found.spans))
    if len(found.spans):
        assert np.allclose(shares.sum(axis=1), 1)


def test_pieces_are_words_marks_tags_and_characters_without_spaces() -> None:
    text = 'He said: "state-of-the-art, don\'t!" <br/>日本 ok'
    words = [text[start:end] for start, end in piece_spans(text)]
    assert words == [
        *('He', 'said', ':', '"', 'state-of-the-art', ',', "don't", '!', '"'),
        *('<br/>', '日', '本', 'ok'),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def modality() -> TextModality:
    found = TextModality(vocab_size=300, max_length=9)
    found.fit([["good bread and tea", "it's a test"]])
    return found


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("good <b>tea</b>", ["good", "tea"]),
        (("good tea", "bad,  bread"), ["good", "tea", None, "bad", ",", "bread"]),
        ("good good good good good good good good good good tea", ["good"] * 9),
        ("", [None]),
    ],
)
def test_each_token_is_of_its_word(modality: TextModality, cell: Any, words: list[str]) -> None:
    pieces = modality.pieces(cell)
    (own,) = modality.tokenizer.rows(
        [cell[0] if isinstance(cell, tuple) else cell],
        [cell[1] if isinstance(cell, tuple) else None],
        modality.max_length,
    )
    assert len(pieces.tokens) == len(own.ids)
    found = [pieces.names[one.argmax()] if one.any() else None for one in pieces.tokens]
    wanted = dict.fromkeys(word for word in found if word != "</b>")
    assert list(wanted) == list(dict.fromkeys(words))


@pytest.mark.parametrize("cell", [["New York", "is", "fine"], "is  fine"])
def test_words_of_a_list_are_placed_with_a_space_between(cell: Any) -> None:
    modality = TextModality(vocab_size=300, words=True)
    modality.fit([["is fine"]])
    pieces = modality.pieces(cell)
    found = [pieces.names[one.argmax()] for one in pieces.tokens]
    assert list(dict.fromkeys(found)) == pieces.text.split()
