"""Rows of tunings: how much of an encoder trains."""

from __future__ import annotations

from tests.rows.encoders import TINY
from tests.rows.row import Row

# given: an optimizer step; expected: weights of the backbone that train then. It is a transformer
# of width 16 with 85 + 32 + 2 embeddings and two blocks of 4 (16^2 + 16) + 2 * 16 * 32 + 32 + 16
# weights and two norms: 1,936 + 2 * 2,224
TUNINGS = (
    Row("tune", "full", 0, 6384, train=(*TINY, "encoder.text.tune=full")),
    Row("tune", "frozen", 0, 0, train=(*TINY, "encoder.text.tune=frozen")),
    Row("tune", "last_blocks", 0, 2224, train=(*TINY, "encoder.text.tune=last_blocks")),
    # in a block 4 * 16 + 32 + 16 and two norms' 16, and one norm after the embeddings
    Row("tune", "bitfit", 0, 2 * 144 + 16, train=(*TINY, "encoder.text.tune=bitfit")),
    Row(  # after three steps all but the embeddings, after six these too
        "tune",
        "gradual",
        5,
        4448,
        {"every": 3},
        train=(*TINY, "encoder.text.tune={name: gradual, every: 1}"),
    ),
    # r (in + out) of six layers in each block: 8 (4 * 32 + 2 * 48)
    Row("tune", "lora", 0, 2 * 1792, train=(*TINY, "encoder.text.tune=lora")),
    # and one length for each output: 4 * 16 + 32 + 16
    Row("tune", "dora", 0, 2 * (1792 + 112), train=(*TINY, "encoder.text.tune=dora")),
    Row(  # those of lora for each of two tasks, and half as many for both
        "tune",
        "task_lora",
        0,
        2 * (2 * 1792 + 896),
        {"shared_rank": 4},
        train=(*TINY, "encoder.text.tune={name: task_lora, shared_rank: 2}"),
    ),
)
