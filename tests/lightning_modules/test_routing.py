"""Layers whose first axis isn't that of the rows are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_modules.routing import RowAssignment
from lightning_modules.tuning.task_lora import TaskLoRA
from pollinate.errors import UsageError
from tests.lightning_modules.tuning.test_task_lora import TASKS, Blocks, text, tokens


def test_only_pictures_are_cut_into_rows_of_their_own() -> None:
    """Of texts, (tokens, rows, D) would pass for windows wherever rows divide tokens."""
    encoder = Blocks(*(nn.Linear(2, 2) for _ in range(2)))
    TaskLoRA(targets=["0"]).apply(encoder, TASKS)
    layer, shares = encoder.blocks[0], (("a", 1), ("b", 1))
    encoder.routing.now = RowAssignment.of(shares)
    assert layer(torch.zeros(6, 2)).shape == (6, 2)  # rows laid end to end
    with pytest.raises(UsageError, match=r"0 is given \(6, 2, 2\) for 2 rows; leave it out: tune"):
        layer(torch.zeros(6, 2, 2))
    encoder.routing.now = RowAssignment.of(shares, cut=True)
    assert layer(torch.zeros(6, 2, 2)).shape == (6, 2, 2)


def test_deberta_says_which_layers_adapters_fit() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    known = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}
    base = transformers.DebertaV2Config(vocab_size=80, num_hidden_layers=2, **config, **known)
    encoder = text()
    encoder.network = transformers.DebertaV2Model(base)
    encoder.separator = None
    TaskLoRA().apply(encoder, TASKS)
    with pytest.raises(UsageError, match=r"query_proj is given .*targets=\[dense, key_proj, value"):
        encoder.routing.call(encoder, tokens(2), (("a", 2),))
