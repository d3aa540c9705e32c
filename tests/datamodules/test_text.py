import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import text
from pipeline.errors import UsageError

TEXTS = ["The food was great!", "the FOOD was<br />not great", "bad food, don't buy"] * 5


@pytest.fixture(scope="module")
def tokenizer() -> text.Tokenizer:
    return text.train(TEXTS, vocab_size=300)


def test_markup_case_and_space_are_ignored(tokenizer: text.Tokenizer) -> None:
    plain, marked = tokenizer.encode(["great food", "  GREAT<br /> <b>food</b>\n"], max_length=50)
    assert plain.tolist() == marked.tolist()


def test_smaller_than_is_not_markup(tokenizer: text.Tokenizer) -> None:
    (ids,) = tokenizer.encode(["i <3 it"], max_length=50)
    assert tokenizer.decode(ids.tolist()).strip() == "i <3 it"


def test_any_script_survives(tokenizer: text.Tokenizer) -> None:
    (ids,) = tokenizer.encode(["很好吃 😀"], max_length=100)
    assert tokenizer.decode(ids.tolist()).strip() == "很好吃 😀"
    assert text.UNKNOWN_ID not in ids


def test_each_text_has_a_token(tokenizer: text.Tokenizer) -> None:
    assert [ids.tolist() for ids in tokenizer.encode(["", " ", "<br />"], max_length=9)] == [
        [text.UNKNOWN_ID]
    ] * 3
    assert tokenizer.encode([], max_length=9) == []


def test_cut_and_type(tokenizer: text.Tokenizer) -> None:
    (ids,) = tokenizer.encode(["food " * 100], max_length=7)
    assert ids.shape == (7,)
    assert ids.dtype == np.int64
    assert text.PAD_ID not in ids
    assert ids.max() < tokenizer.vocab_size


def test_training_is_deterministic(tokenizer: text.Tokenizer) -> None:
    assert text.train(TEXTS, vocab_size=300).to_json() == tokenizer.to_json()


def test_save_and_load(tokenizer: text.Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = text.Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.encode(TEXTS, 9)[1].tolist() == tokenizer.encode(TEXTS, 9)[1].tolist()
    assert again.vocab_size == tokenizer.vocab_size


def test_refuses_other_special_tokens() -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ValueError, match=r"token 0 must be \[PAD\], got x"):
        text.Tokenizer(Tokenizer(models.BPE(vocab={"x": 0}, merges=[])))


def test_refuses_a_vocabulary_smaller_than_the_bytes() -> None:
    with pytest.raises(UsageError, match=r"vocab_size must be >= 259 .* got 100"):
        text.train(TEXTS, vocab_size=100)


def test_forking_after_use_warns_of_nothing() -> None:
    code = (
        "import os; from datamodules import text\n"
        "text.train(['a b']*99, 300).encode(['a b']*99, 9); pid = os.fork()\n"
        "os._exit(0) if pid == 0 else os.waitpid(pid, 0)"
    )
    env = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert "parallelism" not in done.stderr


def test_pad() -> None:
    rows = text.pad([np.array([5, 6, 7]), np.array([8])])
    assert rows.tolist() == [[5, 6, 7], [8, 0, 0]]


def test_drop_tokens_by_hand() -> None:
    ids = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]])
    chance = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.1, 0.2, 0.9, 0.9]])
    kept, lengths = text.drop_tokens(ids, torch.tensor([4, 2]), chance, share=0.5)
    assert kept.tolist() == [[5, 7, 0, 0], [3, 0, 0, 0]]  # the second keeps its luckiest
    assert lengths.tolist() == [2, 1]


def test_drop_no_tokens_changes_nothing() -> None:
    ids = torch.tensor([[5, 6, 0]])
    kept, lengths = text.drop_tokens(ids, torch.tensor([2]), torch.zeros(1, 3), share=0.0)
    assert kept.tolist() == ids.tolist()
    assert lengths.tolist() == [2]
