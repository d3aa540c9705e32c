"""Language models of some thousand weights, as students and as teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import pollinate as po
from datamodules.cache import Cache
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.samplers.base import Sampler
from lightning_modules.module import MultiTaskModule
from lightning_modules.source_models import SourceModel
from lightning_modules.tasks.base import Task
from tests.lightning_modules.transfer.helpers import source_of
from tests.models import llama

WORDS = ("abc", "bcd", "cda", "dab", "aabb", "ccdd", "abcd", "dcba")


def words_frame(count: int = 24, every: int = 4) -> pd.DataFrame:
    """Words and the same turned round, which some rows lack; of one of two kinds."""
    rows = [WORDS[n % 8] + "abcd"[n // 8 % 4] for n in range(count)]
    return pd.DataFrame(
        {
            "word": rows,
            "turned": [None if n % every == 0 else w[::-1] for n, w in enumerate(rows)],
            "length": [float(len(w)) for w in rows],
            "first": ["ab" if w[0] < "c" else "cd" for w in rows],
        }
    )


def turned(**options: Any) -> Task:
    """A task that answers in words."""
    return po.tasks.Generation("words", target="turned", prompt="{word}", **options)


def labelled(**options: Any) -> Task:
    """A task with a head that chooses one of the same two."""
    return po.tasks.Classification("words", target="first", **options)


def chosen(**options: Any) -> Task:
    """A task whose answer is one of two."""
    options = {"choices": ["ab", "cd"], **options}
    return po.tasks.Generation("words", target="first", prompt="{word}", **options)


def data_of(
    folder: Path, tasks: Mapping[str, Task], count: int = 24, sampler: Sampler | None = None
) -> MixedDataModule:
    """Words, all of them for training, with a cache of their own."""
    reads = any(task.prompt is None for task in tasks.values())
    inputs = {"text": "word"} if reads else {}
    whole = po.Dataset(words_frame(count), valid=0, test=0, inputs=inputs)
    sampler = sampler or po.samplers.Temperature(batch_size=8)
    data = po.MixedDataModule({"words": whole}, tasks=dict(tasks), sampler=sampler)
    data.policy.cache = Cache(folder / "cache")
    return data


def writer(
    folder: Path,
    tasks: Mapping[str, Task],
    seed: int = 0,
    maker: Callable[[Path], Path] = llama,
    count: int = 24,
    sampler: Sampler | None = None,
    **options: Any,
) -> tuple[MultiTaskModule, MixedDataModule]:
    """A language model with random weights that are large enough to say something."""
    data = data_of(folder, tasks, count, sampler)
    torch.manual_seed(seed)
    encoder = po.encoders.LanguageModel(model=str(maker(folder / maker.__name__)), weights=False)
    module = po.MultiTaskModule(data, encoders={"text": encoder}, dim=8, **options)
    with torch.no_grad():
        for weight in module.network.encoder("text").parameters():
            if weight.dim() > 1:
                weight.add_(torch.randn_like(weight) / 2)
    return module, data


def teacher(folder: Path, tasks: Mapping[str, Task], seed: int = 1, **options: Any) -> SourceModel:
    """A run of such a model, which says something else."""
    return replace(source_of(*writer(folder, tasks, seed, **options)), digest=f"{seed}")
