"""The keys of each command's configuration: names, types, defaults and ranges.

What a key means is in the command's YAML file; here is what a machine can check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Component = Mapping[str, Any]  # a node with _target_, checked against the class that it names


def _key(rule: str, test: Callable[[Any], bool]) -> Any:
    """Return a required key; a value that isn't null must pass the test."""
    return field(metadata={"rule": rule, "test": test})


def _default(value: Any, rule: str, test: Callable[[Any], bool]) -> Any:
    """Return a key that may be left out; a value that isn't null must pass the test."""
    return field(default=value, metadata={"rule": rule, "test": test})


def _at_least(low: float) -> Any:
    return _key(f">= {low}", lambda value: value >= low)


def _one_of(*names: str) -> Any:
    return _key(f"one of {', '.join(names)}", lambda value: value in names)


def _user_path() -> Any:
    return field(metadata={"user_path": True})  # a leading ~ is the home folder


@dataclass(kw_only=True)
class Loader:
    """How batches are prepared."""

    workers: int = _at_least(0)
    pin_memory: bool


@dataclass(kw_only=True)
class Checkpoint:
    """When checkpoints are written, and which is the best."""

    every_n_steps: int = _at_least(1)
    monitor: str
    mode: str = _one_of("max", "min")


@dataclass(kw_only=True)
class EarlyStopping:
    """When to stop before the last epoch."""

    patience: int | None = _at_least(1)
    min_delta: float = _at_least(0)


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

    rate: int = _default(16000, "> 0 samples a second", lambda value: value > 0)
    mels: int = _default(64, "> 0", lambda value: value > 0)
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

    every_n_steps: int = _at_least(0)


@dataclass(kw_only=True)
class Data:
    """Data sets and tasks; their nodes are checked by ``pipeline.configuration.data_rules``."""

    datasets: dict[str, Any]
    tasks: dict[str, Any]
    seed: int = 0
    on_bad_row: str = _default("error", "one of error, skip", lambda v: v in ("error", "skip"))
    strict: bool = False
    cache: str | None = field(default=None, metadata={"user_path": True})
    image: Image = field(default_factory=Image)
    text: Text = field(default_factory=Text)
    audio: Audio = field(default_factory=Audio)


@dataclass(kw_only=True)
class Fit:
    """python -m pipeline.fit."""

    name: str = _key("a name without /", lambda value: value and "/" not in value)
    seed: int = _at_least(0)
    run_dir: str | None = _user_path()
    resume: str | None = _user_path()
    tasks: list[str] | None = None
    labels: float = _default(1.0, "a share in (0, 1]", lambda value: 0 < value <= 1)
    dim: int = _at_least(1)
    compile: bool
    ema_decay: float | None = _key("in (0, 1)", lambda value: 0 < value < 1)
    loader: Loader
    checkpoint: Checkpoint
    early_stopping: EarlyStopping
    gradients: Gradients
    data: Data
    encoder: dict[str, Component]
    fusion: Component
    trunk: Component
    balancer: Component
    sampler: Component
    transfer: Component
    optimizer: Component
    schedule: Component
    tracking: Component
    trainer: dict[str, Any]
    allow_targets: list[str]


@dataclass(kw_only=True)
class Plan(Fit):
    """python -m pipeline.plan."""

    memory: str | int | float | None
    output: str | None = _user_path()


@dataclass(kw_only=True)
class RankSources(Fit):
    """python -m pipeline.rank_sources."""

    sources: str | list[str]
    scores: dict[str, Component]
    rows: int = _at_least(4)
    reference: str | None = _user_path()
    gains: str | list[str] | None
    output: str | None = _user_path()
    steps: int = _at_least(0)
    every: int = _at_least(1)
    batch_size: int = _at_least(1)


@dataclass(kw_only=True)
class Compared:
    """What a study compares; checked further by ``pipeline.configuration.study_rules``."""

    alone: bool = True
    joint: bool = True
    pairs: str | list[list[str]] | None = None
    pair_weights: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={
            "rule": "one or more weights > 0",
            "test": lambda v: v and all(one > 0 for one in v),
        },
    )
    groups: list[list[str]] = field(default_factory=list)
    variants: dict[str, Any] = field(default_factory=dict)
    transfers: str | list[list[str]] | None = None
    labels: list[float] = field(
        default_factory=list,
        metadata={
            "rule": "shares in (0, 1), such as [0.1, 0.3]",
            "test": lambda v: all(0 < one < 1 for one in v),
        },
    )
    budget: str = _default("rows", "one of rows, steps", lambda v: v in ("rows", "steps"))
    search: dict[str, Any] | None = None
    predictors: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Study(Fit):
    """python -m pipeline.study."""

    study: Compared
    seeds: list[int] = field(
        metadata={
            "rule": "one or more different whole numbers >= 0",
            "test": lambda v: v and min(v) >= 0 and len(set(v)) == len(v),
        }
    )
    jobs: int = _at_least(1)
    timeout: float | None = _key("> 0 minutes", lambda value: value > 0)
    retries: int = _at_least(0)
    launcher: str = _key("a command such as python", lambda value: value.strip())
    dry_run: bool


@dataclass(kw_only=True)
class Evaluate:
    """python -m pipeline.evaluate."""

    checkpoint: str = _user_path()
    split: str = _one_of("train", "valid", "test")
    batch_size: int = _at_least(1)
    run_dir: str | None = _user_path()
    uri: str
    allow_targets: list[str]


@dataclass(kw_only=True)
class Predict:
    """python -m pipeline.predict."""

    checkpoint: str = _user_path()
    input: str = _user_path()
    output: str = _user_path()
    batch_size: int = _at_least(1)
    tasks: list[str] | None
    columns: dict[str, Any]
    uri: str
    on_bad_row: str = _one_of("skip", "error")
    overwrite: bool
    allow_targets: list[str]


@dataclass(kw_only=True)
class Export:
    """python -m pipeline.export."""

    checkpoint: str = _user_path()
    output: str = _user_path()
    task: str | None
    modality: str | None
    merge: bool
    overwrite: bool
    uri: str
    allow_targets: list[str]


@dataclass(kw_only=True)
class Merge:
    """python -m pipeline.merge."""

    models: list[str] = field(metadata={"rule": "a list of one or more", "test": len})
    output: str = _user_path()
    base: str | None = _user_path()
    name: str = _key("a name without /", lambda value: value and "/" not in value)
    method: Component
    batch_norm: str = _one_of("recompute", "keep")
    batch_norm_steps: int = _at_least(1)
    evaluate: bool
    batch_size: int = _at_least(1)
    overwrite: bool
    uri: str
    tracking: Component
    allow_targets: list[str]


@dataclass(kw_only=True)
class Inspect:
    """python -m pipeline.inspect."""

    name: str = _key("a name without /", lambda value: value and "/" not in value)
    run_dir: str | None = _user_path()
    samples: int = _at_least(0)
    data: Data
    tracking: Component
    allow_targets: list[str]


@dataclass(kw_only=True)
class Ui:
    """python -m pipeline.ui."""

    uri: str
    port: int = _key("1 to 65535", lambda value: 1 <= value <= 65535)
    allow_targets: list[str]


@dataclass(kw_only=True)
class Sync:
    """python -m pipeline.sync."""

    run_dir: str | None = _user_path()
    runs: str | None = _user_path()
    uri: str | None
    allow_targets: list[str]


SCHEMAS: dict[str, type[Any]] = {
    "fit": Fit,
    "plan": Plan,
    "rank_sources": RankSources,
    "study": Study,
    "inspect": Inspect,
    "evaluate": Evaluate,
    "predict": Predict,
    "export": Export,
    "merge": Merge,
    "ui": Ui,
    "sync": Sync,
}
NODES: dict[str, type[Any]] = {
    node.__name__: node
    for node in (Loader, Checkpoint, EarlyStopping, Gradients, Image, Text, Audio, Data, Compared)
}
