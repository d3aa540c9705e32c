"""Small classes that stand for ours where a test needs a whole configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import system  # noqa: F401  # re-exports that a config must not reach
from subprocess import Popen  # noqa: F401
from typing import Any, ClassVar, Literal

Width = Literal[8, 16]


class Encoder:
    def __init__(self, width: Width = 8) -> None:
        self.width = width


class Trunk:
    def __init__(self, dim: int, depth: int = 1, dropout: float = 0.1) -> None:
        if depth < 0:
            raise ValueError(f"depth must be >= 0, got {depth}")
        self.dim, self.depth, self.dropout = dim, depth, dropout


class Balancer:
    def __init__(self, tasks: Sequence[str], initial: float = 0.0) -> None:
        self.tasks, self.initial = tasks, initial


class Sampler:
    def __init__(self, batch_size: int, steps_per_epoch: int | None = None) -> None:
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch


class Transfer:
    """Takes no options."""


class Base:
    def __init__(self, warmup: int = 0) -> None:
        self.warmup = warmup


class Schedule(Base):
    """Takes its base's options."""


class Wrapper(Base):
    def __init__(self, inner: Any = None, **options: int) -> None:
        super().__init__(**options)
        self.inner = inner


class Open:
    def __init__(self, **options: Any) -> None:
        self.options = options


@dataclass
class Tracker:
    kind: ClassVar[str] = "tracker"
    uri: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)
    count: int = field(default=0, init=False)


class Rows:
    def __init__(self, name: str = "", path: str | list[str] | None = None) -> None:
        self.name, self.path = name, path


class Classification:
    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing


def function() -> None:
    """Is no class."""
