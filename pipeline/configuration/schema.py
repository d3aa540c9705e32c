"""The keys of each command's configuration: names, types, defaults and ranges.

What a key means is in the command's YAML file; here is what a machine can check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.configuration.keys import at_least, default, key, one_of, user_path
from pipeline.configuration.nodes import (
    Audio,
    Checkpoint,
    Data,
    EarlyStopping,
    Gradients,
    Image,
    Loader,
    Text,
)

Component = Mapping[str, Any]  # a node with _target_, checked against the class that it names


@dataclass(kw_only=True)
class Fit:
    """python -m pipeline.fit."""

    name: str = key("a name without /", lambda value: value and "/" not in value)
    seed: int = at_least(0)
    run_dir: str | None = user_path()
    resume: str | None = user_path()
    tasks: list[str] | None = None
    labels: float = default(1.0, "a share in (0, 1]", lambda value: 0 < value <= 1)
    dim: int = at_least(1)
    compile: bool
    ema_decay: float | None = key("in (0, 1)", lambda value: 0 < value < 1)
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
    output: str | None = user_path()


@dataclass(kw_only=True)
class RankSources(Fit):
    """python -m pipeline.rank_sources."""

    sources: str | list[str]
    scores: dict[str, Component]
    rows: int = at_least(4)
    reference: str | None = user_path()
    gains: str | list[str] | None
    output: str | None = user_path()
    steps: int = at_least(0)
    every: int = at_least(1)
    batch_size: int = at_least(1)


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
    budget: str = default("rows", "one of rows, steps", lambda v: v in ("rows", "steps"))
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
    jobs: int = at_least(1)
    timeout: float | None = key("> 0 minutes", lambda value: value > 0)
    retries: int = at_least(0)
    launcher: str = key("a command such as python", lambda value: value.strip())
    dry_run: bool


@dataclass(kw_only=True)
class Evaluate:
    """python -m pipeline.evaluate."""

    checkpoint: str = user_path()
    split: str = one_of("train", "valid", "test")
    batch_size: int = at_least(1)
    run_dir: str | None = user_path()
    uri: str
    allow_targets: list[str]


@dataclass(kw_only=True)
class Predict:
    """python -m pipeline.predict."""

    checkpoint: str = user_path()
    input: str = user_path()
    output: str = user_path()
    batch_size: int = at_least(1)
    tasks: list[str] | None
    columns: dict[str, Any]
    uri: str
    on_bad_row: str = one_of("skip", "error")
    overwrite: bool
    allow_targets: list[str]


@dataclass(kw_only=True)
class Export:
    """python -m pipeline.export."""

    checkpoint: str = user_path()
    output: str = user_path()
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
    output: str = user_path()
    base: str | None = user_path()
    name: str = key("a name without /", lambda value: value and "/" not in value)
    method: Component
    batch_norm: str = one_of("recompute", "keep")
    batch_norm_steps: int = at_least(1)
    evaluate: bool
    batch_size: int = at_least(1)
    overwrite: bool
    uri: str
    tracking: Component
    allow_targets: list[str]


@dataclass(kw_only=True)
class Inspect:
    """python -m pipeline.inspect."""

    name: str = key("a name without /", lambda value: value and "/" not in value)
    run_dir: str | None = user_path()
    samples: int = at_least(0)
    data: Data
    tracking: Component
    allow_targets: list[str]


@dataclass(kw_only=True)
class Ui:
    """python -m pipeline.ui."""

    uri: str
    port: int = key("1 to 65535", lambda value: 1 <= value <= 65535)
    allow_targets: list[str]


@dataclass(kw_only=True)
class Sync:
    """python -m pipeline.sync."""

    run_dir: str | None = user_path()
    runs: str | None = user_path()
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
