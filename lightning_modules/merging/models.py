"""Models that are merged, read tensor by tensor, and whether they have a common start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lightning_modules.merging.adapters import EncoderAdapters, fold, without_adapters
from lightning_modules.state_dicts import StateDict, storage_key, weighted_sum
from pollinate.errors import UsageError

HEADS = "heads."
MAX_MAPPED_BYTES = 64 << 20  # bytes of all models together that are mapped at a time
StateReader = Callable[
    [], StateDict
]  # opens a model: {name: tensor}, mapped from its file or in memory


@dataclass(frozen=True)
class ResultTensor:
    """A tensor of the result.

    names: of it; several where weights are tied.
    owners: places of the models that have it, >= 1.
    in_base: whether the common start has it.
    is_weight: a parameter; else a buffer.
    is_own: part of a head, or of what else bears a task's name.
    size: bytes in one model.
    shape: of the tensor.
    """

    names: tuple[str, ...]
    owners: tuple[int, ...]
    in_base: bool
    is_weight: bool
    is_own: bool
    size: int
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]


MergeRule = Callable[[ResultTensor, Sequence[Tensor], Tensor | None], Tensor]


class Models:
    """Several models with one set of names, and perhaps the one that they all come from.

    Tensors are read from their files in turn, and what was read is given back: merging takes the
    memory of the result and of a part of each model, however many they are.

    Args:
        labels: what the models are called in messages.
        read: opens each model; asked again and again, to give back what it took before.
        weights: names of all parameters; what else the models have are buffers.
        tasks: of each model.
        base: opens the common start; None: there is none.
        adapters: {modality: what stands beside an encoder's frozen weights} of each model, whose
            states are without them; None: there are none.
        layout: opens states of the same names, shapes and ties, all of them at a time; None:
            those of ``read``, which are computed tensor by tensor where adapters are in weights.
    """

    def __init__(
        self,
        labels: Sequence[str],
        read: Sequence[StateReader],
        weights: Collection[str],
        tasks: Sequence[Sequence[str]],
        base: StateReader | None = None,
        adapters: Sequence[Mapping[str, EncoderAdapters]] | None = None,
        layout: Sequence[StateReader] | None = None,
    ) -> None:
        self.labels = list(labels)
        self.read = list(read)
        self.adapters = [{}] * len(self.read) if adapters is None else list(adapters)
        self._layout = layout
        self.tasks = [list(own) for own in tasks]
        self.base = base
        self._weights = set(weights)

    @cached_property
    def units(self) -> list[ResultTensor]:
        """The tensors of the result.

        Raises:
            UsageError: one has several shapes.
        """
        return self._find(self._weights)

    def __len__(self) -> int:
        return len(self.read)

    def folded(self, base: StateReader | None = None) -> Models:
        """Return the models with their adapters in their weights, each made when it is read.

        Args:
            base: opens the common start; None: that of this.

        Raises:
            UsageError: a model has other adapters for each task, and so no single weights.
        """
        pairs = zip(self.read, self.adapters, strict=True)
        readers = [lambda read=read, own=own: fold(read(), own) for read, own in pairs]
        start = self.base if base is None else base
        return Models(self.labels, readers, self._weights, self.tasks, start, layout=self.read)

    def frozen(self) -> dict[str, Tensor]:
        """Return {name: W} of the backbones with adapters, from the first model that has them."""
        found: dict[str, Tensor] = {}
        for read, own in zip(self.read, self.adapters, strict=True):
            state = read() if own else {}
            for one in own.values():
                found = {name: state[name] for name in one.names} | found
        return found

    def check_frozen(self, advice: str, all_models: bool) -> None:
        """Check that adapters of several models stand beside the same weights.

        Args:
            advice: what to do if they don't.
            all_models: whether those without adapters must have the weights, too.

        Raises:
            UsageError: they don't.
        """
        beside = {name for own in self.adapters for one in own.values() for name in one.names}
        has = [{name for one in own.values() for name in one.names} for own in self.adapters]
        wanted = [unit for unit in self.units if unit.is_weight and beside.intersection(unit.names)]
        for unit, tensors, _ in self.stream(wanted):
            known = [
                (self.labels[owner], tensor)
                for owner, tensor in zip(unit.owners, tensors, strict=True)
                if all_models or unit.name in has[owner]
            ]
            for label, tensor in known[1:]:
                if not torch.equal(tensor, known[0][1]):
                    raise UsageError(
                        f"{unit.name} must be the same beside all adapters, and {label}'s isn't "
                        f"{known[0][0]}'s: adapters are changes of one frozen base; {advice}"
                    )

    def is_merged(self, unit: ResultTensor) -> bool:
        """Say whether a method makes the tensor: no buffer, and several models or a start have it.

        What only one model has, a head above all, is taken as it is.
        """
        moved = unit.in_base and not unit.is_own
        return unit.is_weight and (len(unit.owners) > 1 or moved)

    def stream(
        self, units: Iterable[ResultTensor] | None = None
    ) -> Iterator[tuple[ResultTensor, list[Tensor], Tensor | None]]:
        """Yield (tensor of the result, the owners' ones, the start's); none may be kept."""
        readers = [*self.read, *([self.base] if self.base else [])]
        for some in chunk_by_size(
            self.units if units is None else units, MAX_MAPPED_BYTES // len(readers)
        ):
            states = [read() for read in self.read]
            start = self.base() if self.base else None
            for unit in some:
                tensors = [states[owner][unit.name] for owner in unit.owners]
                yield unit, tensors, start[unit.name] if start and unit.in_base else None
            del states, start

    def merged(
        self,
        rule: MergeRule,
        share: Sequence[float] | None = None,
        units: Iterable[ResultTensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return {name: tensor} of the result.

        Args:
            rule: makes a tensor that ``is_merged``; given the start's where there is one.
            share: of each model in what has no rule, buffers above all; None: all the same.
            units: those wanted; None: all.
        """
        found: dict[str, Tensor] = {}
        for unit, tensors, start in self.stream(units):
            if self.is_merged(unit) and (self.base is None or start is not None):
                tensor = rule(unit, tensors, start)
            else:
                tensor = weighted_mean(tensors, owner_weights(unit, share))
            found |= dict.fromkeys(unit.names, tensor)
        return found

    def _find(self, weights: Collection[str]) -> list[ResultTensor]:
        states = [read() for read in (self.read if self._layout is None else self._layout)]
        start = self.base() if self.base else {}
        tasks = {task for own in self.tasks for task in own}
        tied: dict[tuple[object, ...], list[str]] = {}
        for name in sorted({name for state in states for name in state}):
            found = tuple((i, storage_key(s[name])) for i, s in enumerate(states) if name in s)
            tied.setdefault(found, []).append(name)
        units = []
        for names in tied.values():
            owners = [i for i, state in enumerate(states) if names[0] in state]
            is_weight = any(name in weights for name in names)
            self._require_one_shape(names[0], states, start if is_weight else {})
            own = names[0].startswith(HEADS) or bool(tasks.intersection(names[0].split(".")))
            units.append(
                ResultTensor(
                    tuple(names),
                    tuple(owners),
                    names[0] in start,
                    is_weight,
                    own,
                    states[owners[0]][names[0]].nbytes,
                    tuple(states[owners[0]][names[0]].shape),
                )
            )
        return units

    def _require_one_shape(self, name: str, states: Sequence[StateDict], start: StateDict) -> None:
        named = {label: s[name] for label, s in zip(self.labels, states, strict=True) if name in s}
        named |= {"the base": start[name]} if name in start else {}
        shapes = {label: tuple(tensor.shape) for label, tensor in named.items()}
        if len(set(shapes.values())) > 1:
            text = ", ".join(f"{shape} in {label}" for label, shape in shapes.items())
            raise UsageError(
                f"{name} must have one shape in all models, got {text}; weights are merged one by "
                "one: train models of one width, or average their predictions: method=ensemble"
            )


def read_bare(read: StateReader, adapters: Mapping[str, EncoderAdapters]) -> StateDict:
    """Open a model without its adapters."""
    return without_adapters(read(), adapters)


def read_folded(read: StateReader, adapters: Mapping[str, EncoderAdapters]) -> StateDict:
    """Open a model with its adapters in its weights."""
    return fold(read_bare(read, adapters), adapters)


def chunk_by_size(units: Iterable[ResultTensor], size: int) -> Iterator[list[ResultTensor]]:
    """Yield runs of tensors of at most ``size`` bytes of one model, and at least one tensor."""
    some: list[ResultTensor] = []
    for unit in units:
        if some and sum(one.size for one in some) + unit.size > size:
            yield some
            some = []
        some.append(unit)
    if some:
        yield some


def owner_weights(unit: ResultTensor, share: Sequence[float] | None) -> list[float]:
    """Return the owners' weights, which sum up to 1; all the same where none has any."""
    own = [1.0 if share is None else share[owner] for owner in unit.owners]
    total = sum(own)
    return [one / total for one in own] if total else [1 / len(own)] * len(own)


def weighted_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted mean; what is the same in all models stays the same to the last bit."""
    if all(torch.equal(tensor, tensors[0]) for tensor in tensors[1:]):
        return tensors[0].clone()
    return weighted_sum(tensors, weights)


MAX_SAMPLED = 1 << 16  # entries of a tensor that are looked at
MIN_COSINE = 0.05  # cosine of models with one start; that of others is 0 but for chance
CHANCE_DEVIATIONS = 3.0  # standard deviations of it
MAX_MIN_COSINE = 0.2  # so that models of some hundred weights aren't refused by chance


@dataclass(frozen=True)
class UnrelatedModels:
    """Two models whose weights have nothing to do with each other; cosine: of the two."""

    model: str
    other: str
    cosine: float


class RunningCosine:
    """The angle between two models, gathered tensor by tensor."""

    def __init__(self) -> None:
        self.product = self.first = self.second = 0.0
        self.entries = 0

    def add(self, a: Tensor, b: Tensor) -> None:
        """Take a part of both vectors: (n,) float64 each."""
        self.product += (a @ b).item()
        self.first += (a @ a).item()
        self.second += (b @ b).item()
        self.entries += len(a)

    @property
    def cosine(self) -> float:
        """Of the angle; 1 where one of the vectors is 0."""
        lengths = (self.first * self.second) ** 0.5
        return self.product / lengths if lengths else 1.0

    @property
    def is_chance(self) -> bool:
        """Whether two random vectors could be as near: 0 +- 1 / sqrt(entries)."""
        limit = min(max(MIN_COSINE, CHANCE_DEVIATIONS * self.entries**-0.5), MAX_MIN_COSINE)
        return bool(self.cosine < limit)


def unrelated_models(models: Models) -> Iterator[UnrelatedModels]:
    """Yield the models that don't come from the start, or, without one, from that of the others.

    Over the matrices that are merged, heads left out: networks that were initialised apart are as
    random vectors.
    """
    angles: dict[tuple[int, int | None], RunningCosine] = {}
    chosen = [unit for unit in models.units if models.is_merged(unit) and not unit.is_own]
    for unit, tensors, start in models.stream(chosen):
        if tensors[0].dim() < 2:
            continue  # biases and the weights of norms begin alike everywhere
        reference = None if start is not None else unit.owners[0]
        other = sampled_entries(tensors[0] if start is None else start)
        for owner, tensor in zip(unit.owners, tensors, strict=True):
            if owner != reference:
                angles.setdefault((owner, reference), RunningCosine()).add(
                    sampled_entries(tensor), other
                )
    for (owner, reference), angle in angles.items():
        if angle.is_chance:
            other_label = "the base" if reference is None else models.labels[reference]
            yield UnrelatedModels(models.labels[owner], other_label, angle.cosine)


def sampled_entries(tensor: Tensor) -> Tensor:
    """Return some of the entries: (n,) float64."""
    return tensor.reshape(-1)[:MAX_SAMPLED].double()
