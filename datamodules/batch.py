"""What one training step receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.features import Features
from pollinate.errors import UsageError
from pollinate.suggest import hint

ONE_DATASET = ""  # in place of the name of a batch's only data set, which the model finds out


@dataclass
class CachedFeatures:
    """What the backbone of a frozen encoder made of rows, from disk.

    features: of the N_m rows, in the backbone's widths.
    whole: False where features of tokens and cells were left out, as nothing reads them.
    """

    features: Features
    whole: bool


TensorMap = Callable[[Tensor], Tensor]


@dataclass
class Batch:
    """Rows of one data set.

    inputs: {modality: (N_m, ...)}, the N_m <= N rows that have the modality, in order. Padding is
        part of the values: token id 0 in text, NaN frames in audio.
    targets: {task: (N, ...)}; a row without a label holds a placeholder.
    present: {task: (N,) bool}, True where the row has a label.
    index: (N,) int64, the rows' numbers in their split.
    has: {modality: (N,) bool}, True where the row has it; all rows have a modality not named here.
    words: {modality: (N_m, W) int64}, the place in the token sequence of each word's first token,
        -1 for a word that was cut off, -2 beyond the row's last word; only where a task needs it.
    cached: {modality: features of its N_m rows} in place of inputs, of frozen encoders.
    terms: {modality: (N_m, M, 2) int32}, number and count of each of a text's terms, count 0 beyond
        its last; only where a wide path needs it.
    held_out: {task: (N, K)}, what linear models that were fitted without a row say of it, in place
        of what its terms say: of training rows.
    prompts: {task: (N, P) int64}, token ids of the texts that a task that answers in words goes on
        with, padded with 0; a row of zeros has none.
    answers: {task: (N, A) int64}, token ids of answers that are no labels and go through the
        network in place of the targets: a student's own, say. They are -1 beyond the end, and in
        rows that have none.

    For an ensemble whose networks read a modality differently, each of its forms stands beside the
    modality, under a name of its own: see ``datamodules.modalities.forms``.

    Examples:
        >>> import torch, pollinate as po
        >>> batch = po.Batch(
        ...     inputs={"text": torch.tensor([[4, 7, 9], [4, 8, 0]])},
        ...     targets={"mood": torch.tensor([1, 0])},
        ...     present={"mood": torch.tensor([True, False])},  # the second row isn't labelled
        ...     index=torch.arange(2),
        ... )
        >>> batch.modalities
        ('text',)
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    present: dict[str, Tensor]
    index: Tensor
    has: dict[str, Tensor] = field(default_factory=dict)
    words: dict[str, Tensor] = field(default_factory=dict)
    cached: dict[str, CachedFeatures] = field(default_factory=dict)
    terms: dict[str, Tensor] = field(default_factory=dict)
    held_out: dict[str, Tensor] = field(default_factory=dict)
    prompts: dict[str, Tensor] = field(default_factory=dict)
    answers: dict[str, Tensor] = field(default_factory=dict)

    def shown(self, task: str) -> tuple[Tensor, Tensor]:
        """Return the targets that go through the network, (N, ...), and of which rows, (N,) bool.

        They are a task's labels, or its ``answers`` in their place.
        """
        if task in self.answers:
            return self.answers[task], (self.answers[task] >= 0).any(dim=1)
        return self.targets[task], self.present[task]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the data set's rows."""
        return *self.inputs, *self.cached

    def in_forms(self, forms: Mapping[str, str]) -> Batch:
        """Return the rows as a network reads them: {form, as it calls it: the form here}."""

        def own(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: values[there] for name, there in forms.items() if there in values}

        return replace(
            self,
            inputs=own(self.inputs),
            has=own(self.has),
            words=own(self.words),
            cached=own(self.cached),
            terms=own(self.terms),
        )

    def pin_memory(self) -> Batch:
        """Return the same in page-locked memory; a DataLoader with ``pin_memory`` asks for it."""
        return self.map_tensors(Tensor.pin_memory)

    def to(self, device: torch.device | str) -> Batch:
        """Return the same on a device; Lightning asks for it."""
        return self.map_tensors(mover(device))

    def map_tensors(self, function: TensorMap) -> Batch:
        """Return the same with other tensors.

        Args:
            function: makes one out of each.
        """
        cached = {
            modality: replace(one, features=one.features.map_tensors(function))
            for modality, one in self.cached.items()
        }
        return Batch(
            map_tensors(function, self.inputs),
            map_tensors(function, self.targets),
            map_tensors(function, self.present),
            function(self.index),
            map_tensors(function, self.has),
            map_tensors(function, self.words),
            cached,
            map_tensors(function, self.terms),
            map_tensors(function, self.held_out),
            map_tensors(function, self.prompts),
            map_tensors(function, self.answers),
        )


@dataclass
class MixedBatch:
    """Rows of several data sets, for one step.

    batches: {data set: its rows on this rank}.
    labelled: {task: rows with a label over all ranks}, >= 0. Known to every rank without
        communication, so all ranks agree on which tasks the step has and on each task's mean.
    sizes: {data set: rows over all ranks}, >= 0.
    is_checked: False: the rows are someone else's, and the model checks them before it reads them.
    counts_all_ranks: False: the counts are of this rank's rows, and training adds them up.

    Examples:
        >>> import torch, pollinate as po
        >>> pixels = torch.rand(3, 1, 8, 8)
        >>> batch = po.MixedBatch.of(inputs={"image": pixels}, targets={"object": [4, None, 1]})
        >>> batch.labelled
        {'object': 2}
    """

    batches: dict[str, Batch]
    labelled: dict[str, int]
    sizes: dict[str, int]
    is_checked: bool = True
    counts_all_ranks: bool = True

    @classmethod
    def of(
        cls,
        datasets: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        targets: Mapping[str, Any] | None = None,
    ) -> MixedBatch:
        """Make a batch of plain tensors; arrays and lists of numbers become tensors.

            MixedBatch.of({"reviews": {"inputs": {"text": ids}, "targets": {"stars": stars}},
                           "photos": {"inputs": {"image": pixels}, "targets": {"object": numbers}}})
            MixedBatch.of(inputs={"image": pixels}, targets={"object": numbers})  # one data set

        A row has no label of a task where its target is NaN, a negative class number, or None in a
        list. Of a target with several numbers a row (words, pixels) some may be missing in the same
        way; a row is labelled if one isn't. A task may be left out, or be None.

        Args:
            datasets: {data set: its rows}, which are ``inputs`` {modality: (N, ...)} and
                ``targets`` {task: (N, ...)}; and, where they are needed, ``has``, ``words`` and
                ``index``, as in ``Batch``, and ``present`` {task: (N,) bool}, False where a label
                is to be ignored.
            inputs, targets: of the only data set, in place of ``datasets``.

        Raises:
            UsageError: numbers of rows differ, a value is no tensor, or a key isn't known.
        """
        if datasets is None:
            if inputs is None:
                raise UsageError(
                    "a batch needs rows, got neither data sets nor inputs; write MixedBatch.of("
                    "inputs={modality: tensor}, targets={task: tensor})"
                )
            datasets = {ONE_DATASET: {"inputs": inputs, "targets": targets or {}}}
        elif inputs is not None or targets is not None:
            raise UsageError(
                "a batch is of several data sets or of one, got both datasets and inputs or "
                "targets; put all rows under their data sets' names"
            )
        batches = {name: rows_of(name, rows) for name, rows in datasets.items()}
        return cls(batches, *count_rows(batches), is_checked=False, counts_all_ranks=False)

    def complete_tasks(self, routes: Mapping[str, Sequence[str]]) -> set[str]:
        """Return the tasks of which every row has a label, on every rank.

        That is known without a look at ``present``, which would wait for a device.

        Args:
            routes: {task: data sets}.
        """
        return {
            task
            for task, names in routes.items()
            if self.labelled.get(task) == sum(self.sizes.get(name, 0) for name in names)
        }

    def pin_memory(self) -> MixedBatch:
        """Return the same in page-locked memory; a DataLoader with ``pin_memory`` asks for it."""
        return self.map_tensors(Tensor.pin_memory)

    def to(self, device: torch.device | str) -> MixedBatch:
        """Return the same on a device; Lightning asks for it, and looks no further."""
        return self.map_tensors(mover(device))

    def map_tensors(self, function: TensorMap) -> MixedBatch:
        """Return the same with other tensors; see ``Batch.map_tensors``."""
        batches = {name: rows.map_tensors(function) for name, rows in self.batches.items()}
        return replace(self, batches=batches)


# to these a copy that isn't waited for may be read before it is there
WAITED_FOR = ("cpu", "mps")


def mover(device: torch.device | str) -> TensorMap:
    """Return what moves a tensor; from pinned memory to a GPU without waiting."""
    target = torch.device(device)
    non_blocking = target.type not in WAITED_FOR
    return lambda tensor: tensor.to(target, non_blocking=non_blocking)


def map_tensors(function: TensorMap, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return {name: what is made of its tensor}."""
    return {name: function(tensor) for name, tensor in tensors.items()}


def count_rows(batches: Mapping[str, Batch]) -> tuple[dict[str, int], dict[str, int]]:
    """Return ({task: rows with a label}, {data set: rows})."""
    labelled: dict[str, int] = {}
    for batch in batches.values():
        for task, mask in batch.present.items():
            labelled[task] = labelled.get(task, 0) + int(mask.sum())
    return labelled, {name: len(batch.index) for name, batch in batches.items()}


ROW_KEYS = ("inputs", "targets", "present", "index", "has", "words")


def rows_of(name: str, given: Mapping[str, Any]) -> Batch:
    """Return the rows of one data set; see ``MixedBatch.of``."""
    where = f"batch[{name!r}]" if name else "the batch"
    if not isinstance(given, Mapping):
        raise UsageError(
            f'{where} must be {{"inputs": {{modality: tensor}}, "targets": {{task: tensor}}}}, got '
            f"{describe(given)}"
        )
    for key in given:
        if key not in ROW_KEYS:
            raise UsageError(f"{where} has the key {key!r}{hint(str(key), ROW_KEYS, 'keys')}")
    parts = {
        key: {
            str(one): tensor_of(value, f"{where}, {key} of {one}", key == "targets")
            for one, value in mapping_of(given.get(key), f"{where}, {key}").items()
            if value is not None
        }
        for key in ROW_KEYS
        if key != "index"
    }
    if not parts["inputs"]:
        raise UsageError(f"{where} has no inputs; give it some: {{modality: tensor (N, ...)}}")
    has = {modality: mask.bool() for modality, mask in parts["has"].items()}
    index = given.get("index")
    if index is not None:
        index = tensor_of(index, f"{where}, index")
    counts = {f"inputs of {m}": len(rows) for m, rows in parts["inputs"].items() if m not in has}
    counts |= {f"has of {m}": len(mask) for m, mask in has.items()}
    counts |= {f"targets of {task}": len(rows) for task, rows in parts["targets"].items()}
    counts |= {f"present of {task}": len(mask) for task, mask in parts["present"].items()}
    counts |= {} if index is None else {"index": len(index)}
    require_same_rows(where, counts)
    for modality, mask in has.items():
        rows = len(parts["inputs"].get(modality, ()))
        if rows != int(mask.sum()):
            raise UsageError(
                f"{where}: inputs of {modality} must be of the {int(mask.sum())} rows that have "
                f"it, got {rows}"
            )
    size = next(iter(counts.values()))
    found = Batch(
        parts["inputs"],
        {},
        {},
        torch.arange(size) if index is None else index.long(),
        has,
        parts["words"],
    )
    for task, target in parts["targets"].items():
        found.targets[task], present = split_missing(target, f"{where}, targets of {task}")
        if task in parts["present"]:
            present = present & parts["present"][task].bool()
        found.present[task] = present
    return found


def require_same_rows(where: str, counts: Mapping[str, int]) -> None:
    """Check that all parts of a data set have the same rows."""
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{what}: {count}" for what, count in counts.items())
        raise UsageError(f"{where} must have one number of rows, got {listed}")


def mapping_of(given: Any, where: str) -> Mapping[Any, Any]:
    """Return a part of a data set's rows, empty if it isn't there."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(f"{where} must be {{name: tensor}}, got {describe(given)}")
    return given


def tensor_of(value: Any, where: str, labels: bool = False) -> Tensor:
    """Return a tensor with a row dimension; None in a list of labels is NaN or -1."""
    if labels and isinstance(value, list | tuple):
        known = [one for one in value if one is not None]
        whole = all(isinstance(one, int | np.integer) for one in known)
        value = [(-1 if whole else float("nan")) if one is None else one for one in value]
    try:
        if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
            found = torch.stack(list(value))
        else:
            found = value if isinstance(value, Tensor) else torch.tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        text = isinstance(value, list | tuple) and any(isinstance(one, str) for one in value)
        advice = (
            "texts become token ids, labels class numbers, in a MixedDataModule or before"
            if text
            else "stack the rows to one tensor (N, ...)"
        )
        raise UsageError(f"{where} must be a tensor, got {describe(value)}; {advice}") from error
    if not found.dim():
        raise UsageError(f"{where} must have a row each (N, ...), got the single value {value}")
    return found


def split_missing(target: Tensor, where: str) -> tuple[Tensor, Tensor]:
    """Return targets (N, ...) without gaps, and which rows have one (N,)."""
    if not target.is_floating_point():
        numbers = target.long()
        present = numbers.flatten(1).ge(0).any(dim=1) if numbers.dim() > 1 else numbers >= 0
        return numbers.clamp(min=0 if numbers.dim() == 1 else -1), present
    known = ~target.isnan()
    present = known.flatten(1).any(dim=1) if target.dim() > 1 else known
    if target.dim() == 2 and bool((present & ~known.all(dim=1)).any()):
        row = int((present & ~known.all(dim=1)).nonzero()[0])
        raise UsageError(
            f"{where}: a row has all its labels or none, got {target[row].tolist()} in row {row}; "
            "make all of them NaN, or none"
        )
    return target.nan_to_num(nan=0.0), present


def describe(value: Any) -> str:
    """Say what was given in place of a batch or a tensor."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(repr, list(value)[:8]))}}}"
    if isinstance(value, list | tuple):
        kinds = ", ".join(describe(one) for one in value[:3]) + (", ..." if value[3:] else "")
        return f"{type(value).__name__} of {kinds}" if value else f"an empty {type(value).__name__}"
    return f"{type(value).__name__} {str(value)[:40]!r}" if value is not None else "None"
