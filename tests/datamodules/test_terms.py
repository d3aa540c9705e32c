"""Terms: numbers that only depend on what a text says, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules import terms as module
from datamodules.terms import (
    MOST_COUNTED,
    TERMS,
    WORD_TERMS,
    TermWeights,
    count_terms,
    is_unspaced,
    text_terms,
)


def terms(text: str) -> dict[int, int]:
    numbers, counts = next(iter(text_terms([text])))
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def parts(text: str) -> tuple[int, int]:
    """Return how many different terms of words and of characters a text has."""
    found = terms(text)
    words = sum(number < WORD_TERMS for number in found)
    return words, len(found) - words


@pytest.mark.parametrize(
    ("text", "words", "characters"),
    [
        ("", 0, 0),
        (" \t ", 0, 0),
        ("a", 1, 3),  # _a, a_, _a_
        ("ab", 1, 6),  # _a ab b_, _ab ab_, _ab_
        ("ab ab", 2, 6),  # ab and ab-ab; runs don't cross the space
        ("ab, ab!", 6, 12),  # ab , ! ab-, ,-ab ab-!; _a ab b, ,_ _ab ab, b,_ _ab, ab,_ _ab,_ ...
        ("你好", 3, 2 + 3 + 2),  # single letters and their pair; 你 好, _你 你好 好_, _你好 你好_
    ],
)
def test_terms_are_those_counted_by_hand(text: str, words: int, characters: int) -> None:
    found = parts(text)

    assert found[0] == words
    if text != "ab, ab!":
        assert found[1] == characters


def test_a_term_is_counted() -> None:
    once, often = terms("tea"), terms(" ".join(["tea"] * 300))

    assert set(once.values()) == {1}
    assert set(often) > set(once)
    assert {often[number] for number in once} == {MOST_COUNTED}


@pytest.mark.parametrize("same", ["TEA time", "tea\n\ttime", "<b>tea</b> time", "\uff54ea time"])
def test_writing_doesnt_matter(same: str) -> None:
    assert terms(same) == terms("tea time")


def test_neighbours_in_a_batch_dont_matter() -> None:
    texts = ["good tea", "", "bad", "你好 world", "good tea"]
    together = list(text_terms(texts))

    for text, (numbers, counts) in zip(texts, together, strict=True):
        assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == terms(text)
        assert (np.diff(numbers) > 0).all()
        assert ((numbers >= 0) & (numbers < TERMS)).all()


@pytest.mark.parametrize("most", [1, 9, 20])
def test_how_many_are_looked_at_together_doesnt_matter(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["good tea", "", "bad", "a text of more than twenty characters", "", "tea"]
    wanted = [(numbers.tolist(), counts.tolist()) for numbers, counts in text_terms(texts)]
    monkeypatch.setattr(module, "MOST_CHARACTERS", most)

    found = [(numbers.tolist(), counts.tolist()) for numbers, counts in text_terms(texts)]
    assert found == wanted


@pytest.mark.parametrize(
    "odd", ["", "\0", "\ud800", "\u200d", "🏳️‍🌈", "<" * 5000, "ﷺ", "é" * 3, "\ufeff"]
)
def test_any_text_has_terms(odd: str) -> None:
    (numbers, counts), other = text_terms([odd, "tea"])

    assert len(numbers) == len(counts)
    assert dict(zip(other[0].tolist(), other[1].tolist(), strict=True)) == terms("tea")


def test_order_of_words_matters_by_pairs_only() -> None:
    one, other = set(terms("red tea")), set(terms("tea red"))

    assert len(one - other) == len(other - one) == 1
    assert all(number < WORD_TERMS for number in one ^ other)


def test_scripts_without_spaces() -> None:
    assert is_unspaced(["今天天气很好", "好"])
    assert not is_unspaced(["nice weather", "你"])
    assert not is_unspaced([])


def test_a_text_is_like_those_that_share_its_terms() -> None:
    known = TermWeights(count_terms(["这家酒店很好", "房间很脏"]))
    close, far = (
        known.of(count_terms(["酒店很好啊", "xyz"])) @ known.of(count_terms(["这家酒店很好"])).T
    )

    assert close.sum() > 0.4
    assert far.sum() == 0
    assert TermWeights(count_terms(["", " "])).of(count_terms(["", "a"])).shape[0] == 2
