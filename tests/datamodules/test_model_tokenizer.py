"""A model's own tokens, for one text, pairs and lists of words."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.modalities.text import TextModality
from datamodules.model_tokenizer import ModelTokenizer
from pipeline.errors import UsageError
from tests.models import PIECES, letters, pieces, roberta_letters

CLS, SEP = PIECES.index("[CLS]"), PIECES.index("[SEP]")


def bert(words: bool = False) -> ModelTokenizer:
    return ModelTokenizer(pieces().to_str(), padding=0, words=words)


def ids(*names: str) -> list[int]:
    return [PIECES.index(name) for name in names]


def brought(**change: object) -> dict[str, object]:
    known = {"tokenizer": pieces().to_str(), "padding": 0, "separator": SEP, "limit": 8}
    return {**known, **change}


def test_special_tokens_and_pairs_are_the_models() -> None:
    one, two = bert().rows(["Big cup", "big"], [None, "hat"], 16)
    assert one.ids.tolist() == ids("[CLS]", "big", "cup", "[SEP]")
    assert two.ids.tolist() == ids("[CLS]", "big", "[SEP]", "hat", "[SEP]")
    assert not one.cut
    assert len(one.places) == 0


def test_too_long_a_pair_loses_the_longer_text_first() -> None:
    (found,) = bert().rows(["big big big big big"], ["hat cup"], 8)
    assert found.ids.tolist() == ids("[CLS]", "big", "big", "big", "[SEP]", "hat", "cup", "[SEP]")
    assert found.cut


def test_words_are_where_their_first_piece_is() -> None:
    one, two = bert(words=True).rows([["bigs", "cup"], ["pen", "hat", "no"]], [None, "cup cup"], 7)
    assert one.ids.tolist() == ids("[CLS]", "big", "##s", "cup", "[SEP]")
    assert one.places.tolist() == [1, 3]
    assert two.places.tolist() == [1, 2, -1]


def test_ids_move_up_where_padding_is_not_0() -> None:
    core = roberta_letters()
    tokenizer = ModelTokenizer(core.to_str(), padding=1)
    (found,) = tokenizer.rows(["ab"], [None], 16)
    assert found.ids.tolist() == [1 + n for n in core.encode("ab").ids]
    assert found.ids.min() == 1
    assert tokenizer.special == (1, 2, 3)
    assert tokenizer.vocab_size == core.get_vocab_size() + 1


def test_no_padding_at_all() -> None:
    core = letters("<end>", first=False)
    texts, end = ModelTokenizer(core.to_str(), padding=None).rows(["a", ""], [None] * 2, 9)
    assert texts.ids.tolist() == [1 + core.token_to_id("a")]
    assert end.ids.tolist() == [1]  # a text always has a token


def test_bytes_of_a_word_in_a_list_are_those_of_one_in_a_text() -> None:
    core = letters("<end>", first=False)
    listed = ModelTokenizer(core.to_str(), padding=None, words=True)
    (found,) = listed.rows([["a", "b"]], [None], 9)
    assert found.ids.tolist() == [1 + core.token_to_id(name) for name in ("Ġ", "a", "Ġ", "b")]
    assert found.places.tolist() == [0, 2]


def test_max_length_leaves_room_for_special_tokens() -> None:
    with pytest.raises(UsageError, match=r"max_length must be >= 5, .* got 4"):
        list(bert().rows(["big"], [None], 4))


def test_the_modality_reads_no_more_than_the_model_and_says_how_much_it_cut() -> None:
    modality = TextModality(vocab_size=300, max_length=100, brought=brought())
    modality.fit([])
    store = modality.prepare(["big " * 20, "cup", None]).store
    assert store.lengths().tolist() == [8, 3, 2]
    assert store.note() == "1 of 3 texts are longer than 8 tokens; the rest is cut"
    assert modality.prepare(["cup"]).store.note() is None


def test_dropping_tokens_keeps_the_special_ones() -> None:
    modality = TextModality(vocab_size=300, max_length=8, dropout=0.99, brought=brought())
    store = modality.prepare(["big cup hat"] * 20).store
    found = store.augmented(np.arange(20), seed=0, passes=np.zeros(20, dtype=np.int64))
    assert (found[:, 0] == CLS).all()
    assert ((found == SEP).sum(dim=1) == 1).all()
    assert found.shape[1] < 5


def test_the_tokenizer_travels_in_the_state() -> None:
    modality = TextModality(vocab_size=300, max_length=8, brought=brought())
    state = modality.state_dict()
    again = TextModality(vocab_size=300, max_length=8, brought=state["brought"])
    again.load_state_dict(state)
    assert again.tokenizer.to_json() == modality.tokenizer.to_json()
    assert again.encoder_arguments() == modality.encoder_arguments()
    assert again.options() == modality.options()
