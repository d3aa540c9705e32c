"""The models that a merge starts from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_modules.transfer.borrower import LEARNT
from pipeline.checkpoints import fingerprint, read_mapped
from pipeline.errors import PollinateError
from pipeline.locate import run_folder_of
from pipeline.merging.weights_file import WeightsFile
from pipeline.shards import shard_files
from pipeline.spec import require_training, spec_in

BASE = "the base"  # label of the common start


@dataclass(frozen=True)
class Parent:
    """A checkpoint that is merged.

    label: short, unlike the others'.
    path: of the checkpoint.
    run_id: of its MLflow run, None if that isn't known.
    checksum: of the checkpoint.
    spec: what it says of its model.
    weights: of its network.
    """

    label: str
    path: Path
    run_id: str | None
    checksum: str
    spec: dict[str, Any] = field(repr=False)
    weights: WeightsFile = field(repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of its training."""
        config: dict[str, Any] = self.spec["config"]
        return config

    @property
    def tasks(self) -> list[str]:
        """Names of its tasks."""
        return list(self.config["data"]["tasks"])

    @property
    def datasets(self) -> list[str]:
        """Names of its data sets."""
        return list(self.config["data"]["datasets"])

    @property
    def modalities(self) -> list[str]:
        """What it reads."""
        datasets = self.config["data"]["datasets"].values()
        return sorted({modality for spec in datasets for modality in spec["inputs"]})

    @property
    def fuses(self) -> bool:
        """Whether rows have several modalities."""
        return any(len(spec["inputs"]) > 1 for spec in self.config["data"]["datasets"].values())

    @property
    def borrowed(self) -> dict[str, Any] | None:
        """What it says of sources in its network, None if it has none."""
        known: dict[str, Any] | None = self.spec["learnt"].get(LEARNT)
        return known

    def record(self) -> dict[str, Any]:
        """Return what the result says of it."""
        return {
            "label": self.label,
            "path": str(self.path),
            "run_id": self.run_id,
            "checksum": self.checksum,
            "tasks": self.tasks,
        }


def read_parents(paths: Sequence[Path]) -> list[Parent]:
    """Check files and read what they say of their models.

    Raises:
        PollinateError: one is torn, of another program or another format.
    """
    return [read_parent(p, label) for p, label in zip(paths, labels(paths), strict=True)]


def read_parent(path: Path, label: str) -> Parent:
    """Check a file and read what it says of its model; see ``read_parents``."""
    content = read_mapped(path)
    spec = spec_in(content, path)
    if "members" in spec["config"]:
        raise PollinateError(
            f"{path} is an ensemble, which has no weights of its own to merge; give its members"
        )
    require_training(spec, path)
    checksum = fingerprint([path, *shard_files(content, path)])
    return Parent(label, path, run_id_of(path), checksum, spec, WeightsFile(path, content))


def labels(paths: Sequence[Path]) -> list[str]:
    """Return a short name for each: of its run folder, or of its file; numbered where two agree."""
    names = []
    for path in paths:
        folder = run_folder_of(path)
        names.append(path.stem if folder is None else folder.path.name)
    many = {name for name, count in Counter(names).items() if count > 1}
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name}-{seen[name]}" if name in many else name)
    return found


def run_id_of(path: Path) -> str | None:
    """Return the MLflow run of the run folder that a checkpoint lies in."""
    folder = run_folder_of(path)
    if folder is None or not folder.summary.is_file():
        return None
    run_id = json.loads(folder.summary.read_text(encoding="utf-8")).get("run_id")
    return run_id if isinstance(run_id, str) else None
