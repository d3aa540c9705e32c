"""From data, tasks and recipes to a network, and to what its checkpoints say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from datamodules.mixed_datamodule import MixedDataModule, used_modalities
from lightning_modules.building import (
    as_plain_config,
    assets_of,
    build_network,
    describe_model,
)
from lightning_modules.checkpoints import SPEC_FORMAT
from lightning_modules.encoders.bag import Bag
from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.cnn import CNN
from lightning_modules.encoders.spectrogram import Spectrogram
from lightning_modules.fusions.base import Fusion
from lightning_modules.fusions.concat import Concat
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.trunks.base import Trunk
from lightning_modules.trunks.shared import SharedTrunk
from lightning_modules.wide_fit import fit_wide_paths
from pollinate.errors import UsageError
from pollinate.namespaces import exported
from pollinate.recipes import TARGET, Buildable, Recipe
from pollinate.suggest import did_you_mean, hint
from pollinate.version import VERSION

DEFAULT_ENCODERS: Mapping[str, type[Encoder]] = {"audio": Spectrogram, "image": CNN, "text": Bag}
ONE_DATASET = "data"  # the name of the only data set, where none is said


@dataclass
class Assembly:
    """A network with all that belongs to it.

    network: encoders, trunk and heads.
    tasks: {name: task}, with vocabularies.
    spec: plain values from which a checkpoint builds the network again.
    same_rows: whether tasks that have the same data sets also have labels on the same rows.
    """

    network: MultiTaskNetwork
    tasks: dict[str, Task]
    spec: dict[str, Any]
    same_rows: bool = True


def assemble(
    data: MixedDataModule, encoders: Mapping[str, Any], trunk: Any, fusion: Any, dim: int
) -> Assembly:
    """Return the network for a data module, which is set up with what the encoders bring along.

    Args:
        data: says tasks, modalities and vocabularies.
        encoders: {modality: recipe, node, encoder or any module}; the others have defaults.
        trunk, fusion: a recipe, or None for the default.
        dim: width of the features that encoders give to the trunk.

    Raises:
        UsageError: a part is of another kind, or for a modality that the data don't have.
        PollinateError: the data can't be used.
    """
    require_width(dim)
    used = used_modalities(data.datasets.values(), data.tasks.values())
    parts = {**{name: DEFAULT_ENCODERS[name]() for name in used}, **checked(encoders, used)}
    assets = {name: assets_of(part, (), f"encoders[{name!r}]") for name, part in parts.items()}
    data.use_preprocessing({name: found for name, found in assets.items() if found})
    data.setup()
    inputs = {name: one.inputs for name, one in data.datasets.items()}
    tasks = {name: as_task(task) for name, task in data.tasks.items()}
    learnt = data.learnt_state()
    config = describe_model(
        inputs, tasks, data.modalities, parts, *sharing_of(trunk, fusion), dim=dim
    )
    network = build_network(config, tasks, data.modalities, new=data.learnt is None)
    fit_wide_paths(network, tasks, data)
    return Assembly(network, tasks, spec_of(config, learnt), data.tasks_share_rows())


def assemble_for_tensors(
    tasks: Mapping[str, Task],
    encoders: Mapping[str, Any],
    inputs: Mapping[str, Sequence[str]] | None,
    trunk: Any,
    fusion: Any,
    dim: int,
) -> Assembly:
    """Return the network for batches of tensors, whose tasks know their classes.

    Args:
        tasks: {name: task}.
        encoders: {modality: any module (N, ...) -> (N, dim), an encoder, or a recipe that lacks
            nothing but the width}.
        inputs: {data set: modalities of its rows}; None: one data set, or one modality in all.
        trunk, fusion, dim: as for ``assemble``.

    Raises:
        UsageError: there is no task or no encoder, or it isn't clear what a data set has.
    """
    require_width(dim)
    if not tasks or not encoders:
        raise UsageError(
            "MultiTaskModule needs a MixedDataModule, or tasks with their classes and an encoder a "
            "modality, got neither: MultiTaskModule(data), or MultiTaskModule(tasks={'object': "
            "po.tasks.Classification(classes=10)}, encoders={'image': module})"
        )
    parts = checked(encoders, None)
    named = {name for task in tasks.values() for name in task.datasets} or {ONE_DATASET}
    if inputs is None:
        if len(named) > 1 and len(parts) > 1:
            raise UsageError(
                f"there are {len(parts)} encoders and {len(named)} data sets; say which rows have "
                "which modality: inputs={'reviews': ['text'], 'photos': ['image']}"
            )
        inputs = {name: list(parts) for name in named}
    for name, modalities in inputs.items():
        for modality in modalities:
            if modality not in parts:
                raise UsageError(
                    f"data set {name} has the modality {modality!r}, which no encoder reads"
                    f"{hint(modality, parts, 'encoders')}"
                )
    for name, task in tasks.items():
        task.target = name if task.target is None else task.target  # under which a batch has it
        try:
            task.use_datasets(list(inputs))
        except UsageError as error:
            raise UsageError(f"task {name}: {error}") from error
    columns = {name: {one: one for one in modalities} for name, modalities in inputs.items()}
    config = describe_model(columns, tasks, {}, parts, *sharing_of(trunk, fusion), dim=dim)
    learnt = {
        "tasks": {name: task.state_dict() for name, task in tasks.items()},
        **{key: {} for key in ("modalities", "digests", "labelled", "readings")},
    }
    network = build_network(config, tasks, {}, new=True)
    return Assembly(network, dict(tasks), spec_of(config, learnt))


def require_width(dim: int) -> None:
    """Check the width of features."""
    if dim < 1:
        raise UsageError(f"dim must be >= 1, got {dim}")


def spec_of(config: Mapping[str, Any], learnt: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of its model."""
    plain = as_plain_config(config)
    return {"format": SPEC_FORMAT, "version": VERSION, "config": plain, "learnt": dict(learnt)}


def sharing_of(trunk: Any, fusion: Any) -> tuple[Any, Any]:
    """Return trunk and fusion, or their defaults."""
    return (
        part_of(Trunk, trunk, SharedTrunk, "trunk"),
        part_of(Fusion, fusion, Concat, "fusion"),
    )


def part_of(base: Buildable, given: Any, default: Buildable, name: str) -> Any:
    """Return a recipe, a node or a complete object, the default's recipe for None.

    Raises:
        UsageError: it is something else.
    """
    if given is None:
        return default()
    if isinstance(given, type) and issubclass(given, base):
        return given()
    if isinstance(given, base) or (isinstance(given, Mapping) and TARGET in given):
        return given
    if isinstance(given, Recipe) and issubclass(given.kind, base):
        return given
    family = base.family()
    meant = did_you_mean(given, exported(family)) if isinstance(given, str) else ""
    raise UsageError(
        f"{name} must be one of po.{family}, such as po.{family}.{default.__name__}(), got "
        f"{given!r:.60}{meant}"
    )


def checked(encoders: Mapping[str, Any], used: Sequence[str] | None) -> dict[str, Any]:
    """Return the encoders that were given.

    Raises:
        UsageError: one is for a modality that the data don't have, or is no module and no recipe.
    """
    found = {}
    for name, given in encoders.items():
        if used is not None and name not in used:
            raise UsageError(
                f"encoders names the modality {name!r}, which no data set has"
                f"{hint(name, used, 'modalities of the data')}"
            )
        is_module = isinstance(given, nn.Module) and not isinstance(given, Encoder)
        default = DEFAULT_ENCODERS.get(name, CNN)
        found[name] = (
            given if is_module else part_of(Encoder, given, default, f"encoders[{name!r}]")
        )
    return found
