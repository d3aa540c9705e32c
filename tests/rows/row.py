"""A row for an option of a group of methods: an input, and what comes out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.configuration.composition import load_yaml, resolve_names
from pipeline.configuration.groups import SHIPPED
from pollinate.instantiate import find_target, instantiate

DIM = 8
DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True)
class Row:
    """With ``options`` over its YAML file, the method makes ``expected`` of ``given``.

    train: what selects the option for a whole run; default ``group=option``.
    """

    group: str
    option: str
    given: Any
    expected: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    train: Sequence[str] = ()

    @property
    def name(self) -> str:
        return f"{self.group}/{self.option}"

    def node(self) -> dict[str, Any]:
        """The option's configuration, resolved as in a run with ``dim`` of DIM."""
        key = self.group.replace("/", ".")
        known = {"dim": DIM, "seed": 0, "data": {"image": {"size": [16, 16]}}}
        config = OmegaConf.create(known)
        OmegaConf.update(config, key, load_yaml(SHIPPED / f"{self.name}.yaml"))
        OmegaConf.update(config, key, dict(self.options), merge=True, force_add=True)
        resolve_names(config, [SHIPPED])
        node: Any = OmegaConf.to_container(config, resolve=True)
        for part in key.split("."):
            node = node[part]
        found: dict[str, Any] = without_requirements(node)
        return found

    def kind(self) -> type[Any]:
        """The method's class."""
        return find_target(self.node()["_target_"], (), slot(self.group))

    def build(self, **extra: Any) -> Any:
        """The method, with what only a run knows."""
        node = {name: value for name, value in self.node().items() if name != "tune"}
        return instantiate(node, (), slot(self.group), **extra)


def without_requirements(node: Any) -> Any:
    """A node without what its options need installed."""
    if not isinstance(node, dict):
        return node
    return {k: without_requirements(v) for k, v in node.items() if k != "_requires_"}


def slot(group: str) -> str:
    """Return a key at which the group's options stand in a configuration."""
    inside = {
        "augment": "data.image.augment",
        "score": "scores.x",
        "source": "data.datasets.x.source",
        "task": "data.tasks.x.type",
        "trainer": "trainer.averaging",
        "tune": "encoder.x.tune",
    }
    return inside.get(group, group.replace("/", "."))


def ids(row: Row) -> str:
    return row.name
