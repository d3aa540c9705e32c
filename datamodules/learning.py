"""What modalities and tasks learn from the training rows, or take over from an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datamodules.loading import Loaded, TaskSpec
from datamodules.modalities.base import Modality
from pipeline.errors import PollinateError


def learn_modalities(
    modalities: Mapping[str, Modality],
    loaded: Mapping[str, Loaded],
    learnt: Mapping[str, Any] | None,
) -> None:
    """Learn the tokenizer from the training rows, or take the given one.

    Args:
        modalities: {modality: how raw values become tensors}.
        loaded: {data set: its rows}.
        learnt: of the run to go on with; None: learn from the data.

    Raises:
        PollinateError: the data aren't those of the run to go on with.
    """
    if learnt is not None:
        require_same_data(loaded, learnt["digests"])
    for name, modality in modalities.items():
        if learnt is not None:
            modality.load_state_dict(learnt["modalities"][name])
        else:
            own = [data.input(name, "train") for data in loaded.values() if name in data.inputs]
            modality.fit(own)


def learn_tasks(
    tasks: Mapping[str, TaskSpec],
    loaded: Mapping[str, Loaded],
    learnt: Mapping[str, Any] | None,
) -> None:
    """Learn vocabularies and scales from the training rows, or take the given ones.

    Args:
        tasks: {task: what it is and its data sets}.
        loaded, learnt: as for ``learn_modalities``.
    """
    for name, spec in tasks.items():
        if learnt is not None:
            spec.task.load_state_dict(learnt["tasks"][name])
        elif spec.known is not None:
            spec.task.load_state_dict(dict(spec.known))
        else:
            learn_task(name, spec, loaded)


def learn_task(name: str, spec: TaskSpec, loaded: Mapping[str, Loaded]) -> None:
    """Learn one task's vocabulary and scale from the training rows.

    Raises:
        PollinateError: there are none, or they don't suffice.
    """
    columns = [loaded[dataset].label(name, "train") for dataset in spec.datasets]
    if not any(map(len, columns)):
        raise PollinateError(
            f"task {name} has no training rows (data set {', '.join(spec.datasets)}); "
            "check its split"
        )
    try:
        spec.task.learn(value for column in columns for value in column)
    except PollinateError as error:
        raise PollinateError(f"task {name}: {error}") from error


def require_same_data(loaded: Mapping[str, Loaded], expected: Mapping[str, str]) -> None:
    """Check that data sets are those that a run was started with.

    Args:
        loaded: {data set: its rows}.
        expected: {data set: its digest then}.

    Raises:
        PollinateError: one changed.
    """
    # models that were merged had other tasks: they agree on the table, not on tasks' maps
    changed = [
        name
        for name, data in loaded.items()
        if expected.get(name) not in (data.digest, data.table.digest)
    ]
    if changed:
        raise PollinateError(
            f"the data of {', '.join(changed)} changed since the run was started, so it can't "
            "be resumed or measured exactly; restore the data or start a new run"
        )
