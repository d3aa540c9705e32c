"""The nodes inside a configuration: names, types, defaults and ranges of their keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.configuration.keys import at_least, default, one_of


@dataclass(kw_only=True)
class Loader:
    """How batches are prepared."""

    workers: int = at_least(0)
    pin_memory: bool


@dataclass(kw_only=True)
class Checkpoint:
    """When checkpoints are written, and which is the best."""

    every_n_steps: int = at_least(1)
    monitor: str
    mode: str = one_of("max", "min")


@dataclass(kw_only=True)
class EarlyStopping:
    """When to stop before the last epoch."""

    patience: int | None = at_least(1)
    min_delta: float = at_least(0)


@dataclass(kw_only=True)
class Image:
    """Images and their augmentation; the defaults are for a user's own data file."""

    # null: as the encoder was trained with, or [64, 64]
    size: list[int] | None = field(
        default=None,
        metadata={"rule": "[height, width] in pixels", "test": lambda size: len(size) == 2},
    )
    channels: int = 3
    shift: float = 2.0
    rotate: float = 10.0
    scale: float = 0.1
    augment: dict[str, Any] | None = None


@dataclass(kw_only=True)
class Text:
    """Tokens and their augmentation; the defaults are for a user's own data file."""

    vocab_size: int = 8000
    max_length: int = 160
    dropout: float = 0.0
    tokenizer: str | None = field(default=None, metadata={"user_path": True})


@dataclass(kw_only=True)
class Audio:
    """Spectrograms and their augmentation."""

    rate: int = default(16000, "> 0 samples a second", lambda value: value > 0)
    mels: int = default(64, "> 0", lambda value: value > 0)
    window: float = 25.0
    hop: float = 10.0
    max_seconds: float = 10.0
    time_masks: int = 2
    time_share: float = 0.1
    band_masks: int = 2
    band_width: int = 8


@dataclass(kw_only=True)
class Gradients:
    """How often the tasks' gradients are looked at."""

    every_n_steps: int = at_least(0)


@dataclass(kw_only=True)
class Data:
    """Data sets and tasks; their nodes are checked by ``pipeline.configuration.data_rules``."""

    datasets: dict[str, Any]
    tasks: dict[str, Any]
    seed: int = 0
    on_bad_row: str = default("error", "one of error, skip", lambda v: v in ("error", "skip"))
    strict: bool = False
    cache: str | None = field(default=None, metadata={"user_path": True})
    image: Image = field(default_factory=Image)
    text: Text = field(default_factory=Text)
    audio: Audio = field(default_factory=Audio)
