"""Tokenizers: trained, and of pre-trained models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.modalities import tokenization
from datamodules.modalities.text import TextModality
from datamodules.modalities.tokenization import PretrainedTokenizer
from pollinate.errors import UsageError
from tests.models import PIECES, letters, pieces, roberta_letters

TEXTS = ["The food was great!", "the FOOD was<br />not great", "bad food, don't buy"] * 5


@pytest.fixture(scope="module")
def tokenizer() -> tokenization.BPETokenizer:
    return tokenization.train_bpe(TEXTS, vocab_size=300)


def test_markup_case_and_space_are_ignored(tokenizer: tokenization.BPETokenizer) -> None:
    plain, marked = tokenizer.encode(["great food", "  GREAT<br /> <b>food</b>\n"], max_length=50)
    assert plain.tolist() == marked.tolist()


def test_smaller_than_is_not_markup(tokenizer: tokenization.BPETokenizer) -> None:
    (ids,) = tokenizer.encode(["i <3 it"], max_length=50)
    assert tokenizer.decode(ids.tolist()).strip() == "i <3 it"


def test_any_script_survives(tokenizer: tokenization.BPETokenizer) -> None:
    (ids,) = tokenizer.encode(["很好吃 😀"], max_length=100)
    assert tokenizer.decode(ids.tolist()).strip() == "很好吃 😀"
    assert tokenization.UNKNOWN_ID not in ids


def test_each_text_has_a_token(tokenizer: tokenization.BPETokenizer) -> None:
    assert [ids.tolist() for ids in tokenizer.encode(["", " ", "<br />"], max_length=9)] == [
        [tokenization.UNKNOWN_ID]
    ] * 3
    assert tokenizer.encode([], max_length=9) == []


def test_cut_and_type(tokenizer: tokenization.BPETokenizer) -> None:
    (ids,) = tokenizer.encode(["food " * 100], max_length=7)
    assert ids.shape == (7,)
    assert ids.dtype == np.int64
    assert tokenization.PAD_ID not in ids
    assert ids.max() < tokenizer.vocab_size


def test_training_is_deterministic(tokenizer: tokenization.BPETokenizer) -> None:
    assert tokenization.train_bpe(TEXTS, vocab_size=300).to_json() == tokenizer.to_json()


def test_save_and_load(tokenizer: tokenization.BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = tokenization.BPETokenizer.load(tmp_path / "tokenizer.json")
    assert again.encode(TEXTS, 9)[1].tolist() == tokenizer.encode(TEXTS, 9)[1].tolist()
    assert again.vocab_size == tokenizer.vocab_size


def test_refuses_other_special_tokens() -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ValueError, match=r"token 0 must be \[PAD\], got x"):
        tokenization.BPETokenizer(Tokenizer(models.BPE(vocab={"x": 0}, merges=[])))


def test_refuses_a_vocabulary_smaller_than_the_bytes() -> None:
    with pytest.raises(UsageError, match=r"vocab_size must be >= 259 .* got 100"):
        tokenization.train_bpe(TEXTS, vocab_size=100)


def test_forking_after_use_warns_of_nothing() -> None:
    code = (
        "import os; from datamodules.modalities import tokenization\n"
        "tokenization.train_bpe(['a b']*99, 300).encode(['a b']*99, 9); pid = os.fork()\n"
        "os._exit(0) if pid == 0 else os.waitpid(pid, 0)"
    )
    env = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert "parallelism" not in done.stderr


def test_pad() -> None:
    rows = tokenization.pad_tokens([np.array([5, 6, 7]), np.array([8])])
    assert rows.tolist() == [[5, 6, 7], [8, 0, 0]]


def test_drop_tokens_by_hand() -> None:
    ids = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]])
    chance = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.1, 0.2, 0.9, 0.9]])
    kept, lengths = tokenization.drop_tokens(ids, torch.tensor([4, 2]), chance, share=0.5)
    assert kept.tolist() == [[5, 7, 0, 0], [3, 0, 0, 0]]  # the second keeps its luckiest
    assert lengths.tolist() == [2, 1]


def test_drop_no_tokens_changes_nothing() -> None:
    ids = torch.tensor([[5, 6, 0]])
    kept, lengths = tokenization.drop_tokens(ids, torch.tensor([2]), torch.zeros(1, 3), share=0.0)
    assert kept.tolist() == ids.tolist()
    assert lengths.tolist() == [2]


CLS, SEP = PIECES.index("[CLS]"), PIECES.index("[SEP]")


def bert(words: bool = False) -> PretrainedTokenizer:
    return PretrainedTokenizer(pieces().to_str(), padding=0, words=words)


def ids(*names: str) -> list[int]:
    return [PIECES.index(name) for name in names]


def assets(**change: object) -> dict[str, object]:
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
    tokenizer = PretrainedTokenizer(core.to_str(), padding=1)
    (found,) = tokenizer.rows(["ab"], [None], 16)
    assert found.ids.tolist() == [1 + n for n in core.encode("ab").ids]
    assert found.ids.min() == 1
    assert tokenizer.special == (1, 2, 3)
    assert tokenizer.vocab_size == core.get_vocab_size() + 1


def test_no_padding_at_all() -> None:
    core = letters("<end>", first=False)
    texts, end = PretrainedTokenizer(core.to_str(), padding=None).rows(["a", ""], [None] * 2, 9)
    assert texts.ids.tolist() == [1 + core.token_to_id("a")]
    assert end.ids.tolist() == [1]  # a text always has a token


def test_bytes_of_a_word_in_a_list_are_those_of_one_in_a_text() -> None:
    core = letters("<end>", first=False)
    listed = PretrainedTokenizer(core.to_str(), padding=None, words=True)
    (found,) = listed.rows([["a", "b"]], [None], 9)
    assert found.ids.tolist() == [1 + core.token_to_id(name) for name in ("Ġ", "a", "Ġ", "b")]
    assert found.places.tolist() == [0, 2]


def test_max_length_leaves_room_for_special_tokens() -> None:
    with pytest.raises(UsageError, match=r"max_length must be >= 5, .* got 4"):
        list(bert().rows(["big"], [None], 4))


def test_the_modality_reads_no_more_than_the_model_and_says_how_much_it_cut() -> None:
    modality = TextModality(vocab_size=300, max_length=100, assets=assets())
    modality.fit([])
    store = modality.prepare(["big " * 20, "cup", None]).store
    assert store.lengths().tolist() == [8, 3, 2]
    note = store.note()
    assert note is not None
    assert note.startswith("1 of 3 texts are longer than 8 tokens: 52% of all tokens are cut")
    assert modality.prepare(["cup"]).store.note() is None


def test_dropping_tokens_keeps_the_special_ones() -> None:
    modality = TextModality(vocab_size=300, max_length=8, dropout=0.99, assets=assets())
    store = modality.prepare(["big cup hat"] * 20).store
    found = store.augmented(np.arange(20), seed=0, passes=np.zeros(20, dtype=np.int64))
    assert (found[:, 0] == CLS).all()
    assert ((found == SEP).sum(dim=1) == 1).all()
    assert found.shape[1] < 5


def test_the_tokenizer_travels_in_the_state() -> None:
    modality = TextModality(vocab_size=300, max_length=8, assets=assets())
    state = modality.state_dict()
    again = TextModality(vocab_size=300, max_length=8, assets=state["assets"])
    again.load_state_dict(state)
    assert again.tokenizer.to_json() == modality.tokenizer.to_json()
    assert again.encoder_arguments() == modality.encoder_arguments()
    assert again.options() == modality.options()
