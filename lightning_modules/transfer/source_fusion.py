"""Frozen sources inside this run's network, whose features heads read beside the trunk's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import HEAD_INPUT
from lightning_modules.hooks import HookedModule
from lightning_modules.network import HeadInput, MultiTaskNetwork, RestoresHeadInput, combination
from lightning_modules.source_models import SourceModel, SourceProvider
from lightning_modules.transfer.base import Transfer, probe_step
from lightning_modules.transfer.feature_pairs import require_own_task
from lightning_modules.transfer.frozen_model import FrozenModel, encoder_spec, rebuild_network
from lightning_modules.trunks.gauges import GateStats
from lightning_modules.views import EncodedDataset, View
from pollinate.errors import UsageError
from pollinate.namespaces import public_name
from pollinate.recipes import Buildable


class FrozenEncoders(nn.Module):
    """What a source's encoders make of rows: it is saved with the network, and never trained.

    Args:
        network: of the source, of which trunk and heads are left out.
    """

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.encoders, self.fusions = network.encoders, network.fusions
        self._encode = network.encode
        self.requires_grad_(False).eval()

    def reads(self, modalities: tuple[str, ...]) -> bool:
        """Say whether it can encode rows that have these modalities."""
        known = all(modality in self.encoders for modality in modalities)
        return known and (len(modalities) == 1 or combination(modalities) in self.fusions)

    def forward(self, batches: Mapping[str, Batch]) -> dict[str, EncodedDataset]:
        """Return {name: encoded rows} of those that it can read."""
        given = {name: rows for name, rows in batches.items() if self.reads(rows.modalities)}
        return self._encode(given, {})  # without gradients, unless the rows themselves want them

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)


OWN = "own"  # what this run's trunk makes, among the sources


class SourceMixer(nn.Module, metaclass=Buildable):
    """Puts one task's rows and what sources make of them together.

    Args:
        dim: width D of the rows.
        widths: {source: width D_s of what it lends}.

    Examples:
        >>> import torch, pollinate as po
        >>> class Mean(po.transfer.SourceMixer):
        ...     def forward(self, rows, source_features):
        ...         candidates = self.candidates(rows, source_features)
        ...         even = torch.full(candidates.shape[:2], 1 / candidates.shape[1])
        ...         return candidates.mean(dim=1), even
        >>> mixer = Mean(dim=4, widths={"photos": 6})
        >>> mixed, weights = mixer(torch.ones(2, 4), {"photos": torch.ones(2, 6)})
        >>> mixed.shape, weights.shape  # of the rows themselves, and of the source
        (torch.Size([2, 4]), torch.Size([2, 2]))
    """

    given_later: ClassVar[frozenset[str]] = frozenset({"dim", "widths"})

    def __init__(self, dim: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.sources = (OWN, *widths)
        # a source's features have any scale
        self.project = nn.ModuleDict(
            {s: nn.Sequential(nn.LayerNorm(w), nn.Linear(w, dim)) for s, w in widths.items()}
        )

    def candidates(self, rows: Tensor, source_features: Mapping[str, Tensor]) -> Tensor:
        """Return the rows, and what each source makes of them, in one width: (N, 1 + S, D)."""
        found = [self.project[s](source_features[s].to(rows.dtype)) for s in self.sources[1:]]
        return torch.stack([rows, *(one.to(rows.dtype) for one in found)], dim=1)

    @abstractmethod
    def forward(self, rows: Tensor, source_features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the head reads (N, D), and the weights of ``sources`` (N, 1 + S).

        Args:
            rows: (N, D) of the trunk.
            source_features: {source: (N, D_s)}.
        """


class SourceFusion(HeadInput):
    """Between trunk and heads: each task mixes its rows with what sources make of the same rows.

    Args:
        source_encoders: {source: its encoders}.
        mixers: {task: how it mixes}, of the tasks that borrow.
        node: as for ``HeadInput``.

    Attributes:
        claimed: whether a run's transfer method has made it its own.
    """

    def __init__(
        self,
        source_encoders: Mapping[str, FrozenEncoders],
        mixers: Mapping[str, SourceMixer],
        node: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self._node = dict(node)
        self.source_encoders = nn.ModuleDict(dict(source_encoders))
        self.mixers = nn.ModuleDict(dict(mixers))
        self._load = GateStats(("source", "source_load"))
        self.claimed = False

    @property
    def node(self) -> dict[str, Any]:
        return self._node

    def source_features(
        self, encoded: Mapping[str, EncodedDataset]
    ) -> dict[str, dict[str, EncodedDataset]]:
        """Return {source: {key: what it makes of these rows}}."""
        batches = {key: one.batch for key, one in encoded.items()}
        return {name: encoders(batches) for name, encoders in self.source_encoders.items()}

    def forward(
        self,
        rows: Mapping[str, Tensor],
        views: Mapping[str, View],
        keys: Mapping[str, Sequence[str]],
        encoded: Mapping[str, EncodedDataset],
    ) -> dict[str, Tensor]:
        """Mix; a task without a mixer reads its own rows."""
        source_features = self.source_features(encoded)
        read = dict(rows)
        for task in (task for task in rows if task in self.mixers):
            mixer = self.mixers[task]
            assert isinstance(mixer, SourceMixer)
            found = {
                s: view_features(views[task], [source_features[s][key] for key in keys[task]])
                for s in mixer.sources[1:]
            }
            read[task], weights = mixer(rows[task], found)
            self._load.note(task, mixer.sources, weights)
        return read

    def gauges(self) -> dict[str, float]:
        """Return the last step's mean weights: ``source/<task>/<source>``."""
        return self._load.read(self._load.tasks)


def view_features(view: View, encoded: Sequence[EncodedDataset]) -> Tensor:
    """Return rows, words or cells as a task sees them: (N, D_s)."""
    return torch.cat([group.pooled for one in encoded for group in view.groups(one).values()])


class FrozenSourceTransfer(Transfer, RestoresHeadInput):
    """Lets heads read what frozen sources make of the rows, beside what the trunk does.

    The sources' encoders become a part of the network and of its checkpoints: the run can be
    resumed, and its model used, where the sources are gone.

    Args:
        sources: {name of your choice: a run, or a folder of timm or transformers}.
        tasks: that borrow; None: all whose rows a source can read.

    Attributes:
        mixer: how a task mixes.

    Raises:
        UsageError: there are no sources, or one has the name of what is this run's own; no task is
            to borrow.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.WeightedFusion({"first": "runs/first"}, own=0.75)
        >>> isinstance(transfer, po.transfer.FrozenSourceTransfer), transfer.changes_network
        (True, True)
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> any("first" in name for name in model.network.state_dict())  # it is part of the model
        True
    """

    mixer: ClassVar[type[SourceMixer]]

    def __init__(self, sources: Mapping[str, str], tasks: Sequence[str] | None) -> None:
        super().__init__()
        if not sources or OWN in sources:
            raise UsageError(
                f"transfer.sources must name one source or more, none of them {OWN}, got "
                f"{', '.join(sources) or 'none'}: transfer.sources={{digits: RUN, ...}}"
            )
        if tasks is not None and not tasks:
            raise UsageError(
                "transfer.tasks must name the tasks that borrow, got none; leave it out for all"
            )
        self.sources, self.tasks = dict(sources), None if tasks is None else list(tasks)
        self._gauges: Callable[[], dict[str, float]] = dict

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return options of the mixers, as plain values."""

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Put the sources into the network; one that is resumed has them in its checkpoint.

        Raises:
            PollinateError: there is no such source.
            UsageError: it reads other rows, or none that a task has; another method has put sources
                into the network.
        """
        lines: list[str] = []
        if module.network.head_input is None:
            lines = self._fuse_sources(module, datamodule, sources)
        fusion = module.network.head_input
        if not isinstance(fusion, SourceFusion):
            raise UsageError(
                f"{', '.join(self.sources)} can't be put into the network, where another method's "
                f"{type(fusion).__name__} is what heads read; choose one of them"
            )
        if fusion.claimed:
            raise UsageError(
                f"{', '.join(self.sources)} can't be put into the network, where another method's "
                f"{', '.join(fusion.source_encoders)} are; name all in the "
                "transfer.sources of one"
            )
        fusion.claimed = True
        self._gauges = fusion.gauges
        return lines

    @property
    def changes_network(self) -> bool:
        """It does: heads read its sources."""
        return True

    @classmethod
    def restore_head_input(cls, known: Mapping[str, Any], allow: Sequence[str]) -> SourceFusion:
        """Build sources and mixers again, whose weights are in the network's checkpoint."""
        source_encoders = {
            name: FrozenEncoders(rebuild_network(one, allow))
            for name, one in known["sources"].items()
        }
        mixers = {task: cls.mixer(**options) for task, options in known["mixers"].items()}
        return SourceFusion(source_encoders, mixers, {"_target_": public_name(cls), **known})

    def gauges(self) -> dict[str, float]:
        return self._gauges()

    def _fuse_sources(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        opened = {n: sources.open(what).single_network() for n, what in self.sources.items()}
        source_encoders = {
            n: self._source_encoders(s, module, datamodule) for n, s in opened.items()
        }
        sources_by_task = self._sources_by_task(source_encoders, module, datamodule)
        step = probe_step(module, datamodule)
        source_features = {
            name: encoders(step.batch.batches) for name, encoders in source_encoders.items()
        }
        mixers, known = {}, {}
        for task, names in sources_by_task.items():
            rows, route = step.trace.representations[task], module.network.routes[task]
            found = {
                n: view_features(
                    module.network.views[task], [source_features[n][key] for key in route]
                )
                for n in names
            }
            require_same_lengths(task, len(rows), {n: len(one) for n, one in found.items()})
            widths = {name: one.shape[1] for name, one in found.items()}
            known[task] = {"dim": rows.shape[1], "widths": widths, **self.options()}
            mixers[task] = self.mixer(**known[task])
        node = {
            "_target_": public_name(type(self)),
            "sources": {name: encoder_spec(source) for name, source in opened.items()},
            "mixers": known,
        }
        module.network.head_input = SourceFusion(source_encoders, mixers, node)
        module.spec["learnt"][HEAD_INPUT] = node
        return [
            f"{task} reads {' and '.join([OWN, *names])}" for task, names in sources_by_task.items()
        ]

    def _source_encoders(
        self, source: SourceModel, module: HookedModule, datamodule: MixedDataModule
    ) -> FrozenEncoders:
        """Return a source's encoders, of modalities that this run reads."""
        teacher = FrozenModel(source)
        read = [m for m in module.network.encoders if m in teacher.network.encoders]
        if not read:
            raise UsageError(
                f"{source.name} reads {', '.join(teacher.network.encoders)}, and this run "
                f"{', '.join(module.network.encoders)}; choose a source of the same modality"
            )
        for modality in read:
            teacher.require_encoder(modality, module, datamodule)
        return FrozenEncoders(teacher.network)

    def _sources_by_task(
        self,
        source_encoders: Mapping[str, FrozenEncoders],
        module: HookedModule,
        datamodule: MixedDataModule,
    ) -> dict[str, list[str]]:
        """Return {task: the sources that can read all its rows}."""
        routes = module.network.routes
        for task in self.tasks or ():
            require_own_task(task, list(routes))
        found = {
            task: [
                name
                for name, encoders in source_encoders.items()
                if all(encoders.reads(tuple(datamodule.datasets[d].inputs)) for d in routes[task])
            ]
            for task in (routes if self.tasks is None else self.tasks)
        }
        idle = [task for task, names in found.items() if not names]
        if idle and (self.tasks is not None or len(idle) == len(found)):
            raise UsageError(
                f"no source reads the rows of {', '.join(idle)}: {', '.join(self.sources.values())}"
                " were trained on other modalities; name tasks that can: transfer.tasks=[...]"
            )
        return {task: names for task, names in found.items() if names}


def require_same_lengths(task: str, rows: int, source_features: Mapping[str, int]) -> None:
    """Check that sources see as many words or cells of the rows as this run does."""
    wrong = {name: count for name, count in source_features.items() if count != rows}
    if wrong:
        name, count = next(iter(wrong.items()))
        raise UsageError(
            f"{name} gives {count} words or cells of rows of which {task} reads {rows}; take a "
            "source with the same grid or tokens, or leave the task out: transfer.tasks=[...]"
        )
