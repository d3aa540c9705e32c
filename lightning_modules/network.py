"""Encoders, fusion, trunk and heads: rows in, every task's output out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import nan
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.batch import Batch
from datamodules.features import Features, PooledOnly, concat_features
from lightning_modules.answers import AnswerView, SaidAnswers, answer_blocks
from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.language_model import (
    NO_TOKEN,
    AnsweredPrompts,
    LanguageModel,
    no_answers,
    stack_tokens,
    without_padding,
)
from lightning_modules.fusions.base import Fusion
from lightning_modules.routing import Routing
from lightning_modules.task_network import TaskNetwork
from lightning_modules.task_rows import (
    ALL_TASKS,
    EncodingKeys,
    disjoint_groups,
    encoding_keys,
    keys_of_task,
    task_key,
)
from lightning_modules.trunks.base import Routes, Trunk
from lightning_modules.tuning.base import Tuning
from lightning_modules.tuning.routed_adapters import shared_parameters
from lightning_modules.views import TEXT, EncodedDataset, RowView, View
from lightning_modules.wide_path import WidePath


@dataclass
class ForwardTrace:
    """Filled by ``MultiTaskNetwork.forward``.

    encoded: {key of ``encoding_keys``: encoded rows}, the names of data sets where no encoder has
        adapters per task.
    head_inputs: {task: what its head read, (N_i, D) of each group of rows}.
    """

    encoded: dict[str, EncodedDataset] = field(default_factory=dict)
    head_inputs: dict[str, list[Tensor]] = field(default_factory=dict)

    @property
    def representations(self) -> dict[str, Tensor]:
        """{task: what its head read, (N, D)}, rows in the order of the task's outputs."""
        return {task: torch.cat(rows) for task, rows in self.head_inputs.items()}


ROW_VIEW = RowView()
ALL_ROWS = 2**62
MODALITY_SEPARATOR = "+"  # between the names of modalities
HeadTap = Callable[[str, Tensor], Tensor]


def shared_rows(task: str, rows: Tensor) -> Tensor:
    """Let a head read the shared rows."""
    return rows


class HeadInput(nn.Module, ABC):
    """Turns the trunk's rows into what heads read; a network has at most one.

    It is a part of the network and of its checkpoints, in which ``node`` says how to build it
    again: neither the method that made it nor that method's sources are needed any more.
    """

    @property
    @abstractmethod
    def node(self) -> dict[str, Any]:
        """Plain values: ``_target_``, a ``RestoresHeadInput``, and what it makes it of."""

    def gauges(self) -> dict[str, float]:
        """Return {name: number}: what tasks take from where, as ``Trunk.gauges``."""
        return {}

    @abstractmethod
    def forward(
        self,
        rows: Mapping[str, Tensor],
        views: Mapping[str, View],
        keys: Mapping[str, Sequence[str]],
        encoded: Mapping[str, EncodedDataset],
    ) -> dict[str, Tensor]:
        """Return {task: what its head reads, (N, D)}.

        Args:
            rows: {task: (N, D) of the trunk}.
            views: {task: what it reads of its rows: one vector, words or cells}.
            keys: {task: keys in ``encoded`` of its data sets, in order}.
            encoded: the encoded rows.
        """


class RestoresHeadInput(ABC):
    """A class that the node of a ``HeadInput`` can name."""

    @classmethod
    @abstractmethod
    def restore_head_input(cls, known: Mapping[str, Any], allow: Sequence[str]) -> HeadInput:
        """Build it again, with any weights.

        Args:
            known: the node without its ``_target_``.
            allow: packages, besides our own, whose classes may be named.
        """


class MultiTaskNetwork(TaskNetwork):
    """One model for all tasks.

    Args:
        encoders: {modality: its encoder}.
        trunk: how the tasks share.
        heads: {task: output layer}.
        routes: {task: data sets whose rows it is predicted from}.
        fusions: {``combination`` of modalities: how they become one vector per row}.
        views: {task: what it reads of its rows: words or cells}; default: one vector per row.
        tunings: {modality: how much of its encoder trains}; they were applied.
        wide: {task: what a linear model of its texts adds to its output}.

    Examples:
        >>> import torch, pollinate as po
        >>> network = po.MultiTaskNetwork(
        ...     encoders={"text": po.encoders.Bag(vocab_size=50, dim=8)},
        ...     trunk=po.trunks.SharedTrunk(["mood", "stars"], dim=8),
        ...     heads={"mood": torch.nn.Linear(8, 2), "stars": torch.nn.Linear(8, 5)},
        ...     routes={"mood": ["reviews"], "stars": ["reviews"]},
        ... )
        >>> tokens = torch.tensor([[4, 7, 9], [4, 8, 0]])
        >>> rows = po.MixedBatch.of({"reviews": {"inputs": {"text": tokens}}}).batches
        >>> {task: tuple(output.shape) for task, output in network(rows).items()}
        {'mood': (2, 2), 'stars': (2, 5)}
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        routes: Routes,
        fusions: Mapping[str, Fusion] | None = None,
        views: Mapping[str, View] | None = None,
        tunings: Mapping[str, Tuning] | None = None,
        wide: Mapping[str, WidePath] | None = None,
    ) -> None:
        super().__init__(routes)
        self.tunings = dict(tunings or {})
        self.encoders = nn.ModuleDict(dict(encoders))
        self.fusions = nn.ModuleDict(dict(fusions or {}))
        self.trunk = trunk
        self.heads = nn.ModuleDict(dict(heads))
        self.wide = nn.ModuleDict(dict(wide or {}))
        self.views = {task: (views or {}).get(task, ROW_VIEW) for task in heads}
        self.head_input: HeadInput | None = None  # None: heads read the trunk's rows

    def forward(
        self,
        batches: Mapping[str, Batch],
        tasks: Sequence[str] | None = None,
        tap: HeadTap = shared_rows,
        separate_graphs: bool = False,
        trace: ForwardTrace | None = None,
    ) -> dict[str, Tensor]:
        """Predict; see ``TaskNetwork.forward``.

        Args:
            batches, tasks: as there.
            tap: what each head reads in place of its shared rows: (task, rows) -> rows.
            separate_graphs: whether tasks that have no encoded rows in common get graphs of their
                own.
            trace: records intermediate results.
        """
        routes = self.routes_of(tasks)
        trace = ForwardTrace() if trace is None else trace
        if not separate_graphs:
            return self._forward(batches, routes, tap, trace)
        outputs: dict[str, Tensor] = {}
        for some in self._split_routes(batches, routes):
            names = {name for route in some.values() for name in route}
            read = {name: batch for name, batch in batches.items() if name in names}
            if read:
                outputs |= self._forward(read, some, tap, trace)
        return outputs

    def _forward(
        self, batches: Mapping[str, Batch], routes: Routes, tap: HeadTap, trace: ForwardTrace
    ) -> dict[str, Tensor]:
        asked = self._asked(batches, routes)
        encoded, logits = self._read(batches, routes, [rows for rows, _ in asked.values()])
        outputs = self.predict(encoded, routes, tap, trace) if encoded else {}
        for (task, (_, mask)), found in zip(asked.items(), logits, strict=True):
            if not mask.all():
                full = found.new_zeros((len(mask), *found.shape[1:]))
                found = full.index_put((mask.nonzero()[:, 0],), found)
            outputs[task] = found
        return outputs

    def answer(
        self,
        batches: Mapping[str, Batch],
        routes: Routes,
        limits: Mapping[str, int] | None = None,
    ) -> dict[str, Tensor]:
        reading = {t: names for t, names in routes.items() if not self.views[t].prompted}
        outputs = super().answer(batches, reading) if reading else {}
        for task, names in routes.items():
            parts = [batches[name] for name in names if name in batches]
            view = self.views[task]
            if not isinstance(view, AnswerView) or not parts:
                continue
            prompts = stack_tokens([part.prompts[task] for part in parts])
            numbers = torch.cat([part.index for part in parts])
            chosen = numbers < (limits or {}).get(task, ALL_ROWS)
            rows = AnsweredPrompts(task, prompts, no_answers(prompts))
            if view.reads_answers and any(task in part.targets for part in parts):
                mask = torch.cat([part.present[task] for part in parts])
                wanted = stack_tokens([part.targets[task] for part in parts], NO_TOKEN)
                rows = replace(rows, answers=wanted.where(mask[:, None], NO_TOKEN))
            outputs[task] = self._answer(view, rows, chosen)
        return outputs

    def _answer(self, view: AnswerView, rows: AnsweredPrompts, chosen: Tensor) -> Tensor:
        """Return what is predicted of rows, (N, K); their number doesn't bound the memory.

        Args:
            view: how they are answered.
            rows: prompts, and the right answers where they are known.
            chosen: (N,) bool, as for ``AnswerView.answer``.
        """
        lengths = (rows.prompts != 0).sum(dim=1)
        blocks = answer_blocks(lengths.tolist(), view, rows.answers.shape[1])
        found = []
        for block in blocks or [[]]:
            places = torch.tensor(block, dtype=torch.int64, device=rows.prompts.device)
            own = AnsweredPrompts(
                rows.task, without_padding(rows.prompts[places], 0), rows.answers[places]
            )
            said = self._said(own)
            found.append(
                view.answer(self.language_model, rows.task, own.prompts, chosen[places], said)
            )
        outputs = stack_tokens(found, NO_TOKEN)
        order = torch.tensor(list(chain.from_iterable(blocks)), device=outputs.device)
        return outputs[order.argsort()] if len(order) else outputs

    def _said(self, rows: AnsweredPrompts) -> SaidAnswers:
        """Return what the language model makes of right answers."""
        there = (rows.prompts != 0).any(dim=1) & (rows.answers >= 0).any(dim=1)
        said = SaidAnswers.nothing(len(there), there.device)
        if not there.any():
            return said
        answers = without_padding(rows.answers[there], NO_TOKEN)
        known = AnsweredPrompts(rows.task, rows.prompts[there], answers)
        (logits,) = self.language_model(None, [known]).logits
        return said.filled(there, SaidAnswers.of(logits, answers))

    @property
    def language_model(self) -> LanguageModel:
        """The encoder of texts, where tasks answer in words."""
        found = self.encoder(TEXT)
        assert isinstance(found, LanguageModel), "build_network checks this"
        return found

    def _asked(
        self, batches: Mapping[str, Batch], routes: Routes
    ) -> dict[str, tuple[AnsweredPrompts, Tensor]]:
        """Return {task: prompts and answers of its rows that have both, and which rows (N,)}."""
        found = {}
        for task, names in routes.items():
            parts = [batches[name] for name in names if name in batches]
            if not self.views[task].prompted or not parts:
                continue
            prompts = stack_tokens([part.prompts[task] for part in parts])
            shown = [part.shown(task) for part in parts]
            answers = stack_tokens([own for own, _ in shown], NO_TOKEN)
            mask = torch.cat([there for _, there in shown])
            mask = mask & (prompts != 0).any(dim=1)
            answers = without_padding(answers[mask], NO_TOKEN)
            found[task] = AnsweredPrompts(task, prompts[mask], answers), mask
        return found

    def predict(
        self,
        encoded: Mapping[str, EncodedDataset],
        routes: Routes,
        tap: HeadTap = shared_rows,
        trace: ForwardTrace | None = None,
    ) -> dict[str, Tensor]:
        """Send encoded rows through trunk and heads.

        Args:
            encoded: what ``encode_batches`` returned.
            routes: {task: data sets}; those that were not encoded are left out.
            tap, trace: as for ``forward``.
        """
        trace = ForwardTrace() if trace is None else trace
        trace.encoded.update(encoded)
        keys, read = self.head_inputs(encoded, routes, tap)
        trace.head_inputs.update(read)
        rows = {t: torch.cat(parts) if len(parts) > 1 else parts[0] for t, parts in read.items()}
        if self.head_input is not None:
            rows = self.head_input(rows, self.views, keys, encoded)
        return {
            task: self._output(task, own, [encoded[key] for key in keys[task]])
            for task, own in rows.items()
        }

    def head_inputs(
        self, encoded: Mapping[str, EncodedDataset], routes: Routes, tap: HeadTap = shared_rows
    ) -> tuple[dict[str, list[str]], dict[str, list[Tensor]]]:
        """Send encoded rows through the trunk.

        Args:
            encoded, routes, tap: as for ``predict``.

        Returns:
            {task: keys in ``encoded`` of its data sets, in order}, and
            {task: what its head reads, (N_i, D) of each group of rows}.
        """
        # all rows go through, wanted or not: which parameters a step reaches must not depend on it
        groups = {name: one.fused for name, one in encoded.items()}
        paths: dict[str, list[str]] = {}
        for task, names in routes.items():
            for name in keys_of_task(encoded, task, names):
                for group, features in self.views[task].groups(encoded[name]).items():
                    key = f"{name}:{group}" if group else name
                    groups.setdefault(key, features)
                    paths.setdefault(task, []).append(key)
        found = {
            task: [tap(task, part) for part in parts]
            for task, parts in self.trunk(groups, paths).items()
        }
        keys = {task: keys_of_task(encoded, task, routes[task]) for task in found}
        return keys, found

    def _output(self, task: str, rows: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Return what a head makes of its rows, and the task's wide path of their texts."""
        output = self.views[task].output(self.heads[task], rows, encoded)
        if task not in self.wide:
            return output
        shift: Tensor = self.wide_path(task)([one.batch for one in encoded])
        return output + shift.to(output.dtype)

    def wide_path(self, task: str) -> WidePath:
        """Return a task's wide path."""
        found = self.wide[task]
        assert isinstance(found, WidePath)
        return found

    def encode(self, batches: Mapping[str, Batch], routes: Routes) -> dict[str, EncodedDataset]:
        """Encode all rows of a modality in one call, split them by data set, and fuse.

        Args:
            batches: {data set: rows}.
            routes: {task: data sets}: what will be predicted from the rows.

        Returns:
            {key of ``encoding_keys``: rows}: dataset names, where no encoder has adapters per task.
        """
        return self._read(batches, routes, ())[0]

    def _read(
        self, batches: Mapping[str, Batch], routes: Routes, asked: Sequence[AnsweredPrompts]
    ) -> tuple[dict[str, EncodedDataset], list[Tensor]]:
        """Encode rows, and predict the answers to prompts, in one call of an encoder.

        Args:
            batches, routes: as for ``encode``.
            asked: prompts and answers of tasks that answer in words.

        Returns:
            what ``encode`` returns, and the logits (n, A, V) of each of ``asked``.
        """
        own_forms = self.as_read(batches)
        there = {name: batch for name, batch in own_forms.items() if batch.modalities}
        reading = {t: names for t, names in routes.items() if not self.views[t].prompted}
        routed = [name for name, batch in there.items() if any(self._routed(batch))]
        found = encoding_keys(there, routed, reading)
        features: dict[str, dict[str, Features]] = {key: {} for key in found}
        logits: list[Tensor] = []
        for modality in self.encoders:
            own = asked if modality == TEXT else ()
            for keys, rows in self._encode(modality, there, found, own, logits):
                for key in keys:
                    features[key][modality] = rows
        encoded = {
            key: EncodedDataset(self._fuse(features[key], there[name]), features[key], there[name])
            for key, (name, _) in found.items()
        }
        return encoded, logits

    def _encode(
        self,
        modality: str,
        batches: Mapping[str, Batch],
        found: EncodingKeys,
        asked: Sequence[AnsweredPrompts],
        logits: list[Tensor],
    ) -> Iterator[tuple[list[str], Features]]:
        """Yield (keys of the copies that share the rows, the rows' features), by one call.

        Args:
            modality: whose rows.
            batches: {data set: rows}.
            found: of ``encoding_keys``.
            asked: prompts and answers that the same call reads, too.
            logits: gets those of each of ``asked``.
        """
        encoder = self.encoder(modality)
        units: dict[tuple[str, str], list[str]] = {}  # (data set, task): keys
        for key, (name, task) in found.items():
            if modality in batches[name].modalities:
                unit = (name, ALL_TASKS if encoder.routing is None else task)
                units.setdefault(unit, []).append(key)
        given = [batches[name] for name, _ in units]
        if not given and not asked:
            return
        if asked:
            parts = [batch.inputs[modality] for batch in given]
            shares = [(task, len(rows)) for (_, task), rows in zip(units, parts, strict=True)]
            inputs = concat_inputs(parts) if parts else None
            read = self.language_model(inputs, asked, shares)
            logits.extend(read.logits)
            encoded = split_features(read, [n for _, n in shares]) if parts else []
        elif encoder.routing is None:
            encoded = encode_batches(encoder, modality, given)
        else:
            tasks = [task for _, task in units]
            encoded = encode_routed(encoder, encoder.routing, modality, given, tasks)
        yield from zip(units.values(), encoded, strict=True)

    def modalities(self) -> tuple[str, ...]:
        return tuple(self.encoders)

    def encoder(self, modality: str) -> Encoder:
        """Return a modality's encoder."""
        found = self.encoders[modality]
        assert isinstance(found, Encoder)
        return found

    def _fuse(self, features: Mapping[str, Features], batch: Batch) -> Features:
        if len(features) == 1:
            ((name, rows),) = features.items()
            has = batch.has.get(name)
            return rows if has is None else rows.at_rows(has)  # the others have prompts alone
        all_rows = torch.ones_like(batch.index, dtype=torch.bool)
        masks = {name: batch.has.get(name, all_rows) for name in features}
        return Features(self.fusions[combination(features)](features, masks))

    def reads_tokens(self, modality: str) -> bool:
        """Say whether any part looks at more of a modality's features than the pooled vectors."""
        fusions = [
            part
            for name, part in self.fusions.items()
            if modality in name.split(MODALITY_SEPARATOR)
        ]
        found = [part.reads_tokens for part in (self.trunk, *fusions)]
        return any(found) or any(modality in view.reads_tokens_of for view in self.views.values())

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that several tasks' gradients reach."""
        for modality in self.encoders:
            yield from shared_parameters(self.encoder(modality))
        yield from self.fusions.parameters()
        yield from self.trunk.shared_parameters()

    def tasks_share_rows(self) -> bool:
        """Say whether all tasks read the same features of the same data sets."""
        same = len({(self.routes[t], type(self.views[t])) for t in self.routes}) == 1
        return same and not self.adapted() and not self.prompted()

    def prompted(self) -> list[str]:
        """Return the tasks that answer in words."""
        return [task for task, view in self.views.items() if view.prompted]

    def tasks_share_features(self) -> bool:
        """Say whether all tasks' heads read the same tensors."""
        return self.trunk.same_for_all and self.tasks_share_rows()

    def adapted(self) -> list[str]:
        """Return the modalities whose encoders have adapters of each task's own."""
        return [name for name in self.encoders if self.encoder(name).routing is not None]

    def _routed(self, batch: Batch) -> list[bool]:
        return [self.encoder(name).routing is not None for name in batch.modalities]

    def _split_routes(self, batches: Mapping[str, Batch], routes: Routes) -> Iterator[Routes]:
        """Yield the routes of tasks whose rows share an encoder's forward, group by group."""
        separate = {
            name for name, batch in batches.items() if batch.modalities and all(self._routed(batch))
        }
        keys = {
            t: [task_key(n, t) if n in separate else n for n in names]
            for t, names in routes.items()
        }
        for some in disjoint_groups(keys):
            yield {task: names for task, names in routes.items() if set(keys[task]) & set(some)}


def combination(modalities: Iterable[str]) -> str:
    """Return the name of several modalities together: ``image+text``."""
    return MODALITY_SEPARATOR.join(sorted(modalities))


def encode_batches(encoder: Encoder, modality: str, batches: Sequence[Batch]) -> list[Features]:
    """Return each batch's features, of its inputs or of a frozen backbone's cached features."""
    kept = [batch.cached[modality] for batch in batches if modality in batch.cached]
    if not kept:
        inputs = [batch.inputs[modality] for batch in batches]
        return split_features(encoder(concat_inputs(inputs)), [len(rows) for rows in inputs])
    finished = encoder.finish(concat_features([one.features for one in kept]))
    found = split_features(finished, [len(one.features.pooled) for one in kept])
    pairs = zip(found, kept, strict=True)
    return [own if one.whole else PooledOnly(own.pooled) for own, one in pairs]


def encode_routed(
    encoder: Encoder,
    routing: Routing,
    modality: str,
    batches: Sequence[Batch],
    tasks: Sequence[str],
) -> list[Features]:
    """Return each batch's features under its task's adapters; such encoders are never cached."""
    inputs = [batch.inputs[modality] for batch in batches]
    sizes = [len(rows) for rows in inputs]
    shares = list(zip(tasks, sizes, strict=True))
    return split_features(routing.call(encoder, concat_inputs(inputs), shares), sizes)


def concat_inputs(inputs: Sequence[Tensor]) -> Tensor:
    """Concatenate the rows of several data sets: (N_i, ...) -> (sum N_i, ...).

    Token ids (N_i, L_i) are padded with 0, frames (N_i, L_i, F) with NaN, to the longest.
    """
    if len(inputs) == 1:
        return inputs[0]
    longest = max(rows.shape[1] for rows in inputs)
    if inputs[0].dim() == 2:
        inputs = [functional.pad(rows, (0, longest - rows.shape[1])) for rows in inputs]
    elif inputs[0].dim() == 3:
        inputs = [
            functional.pad(rows, (0, 0, 0, longest - rows.shape[1]), value=nan) for rows in inputs
        ]
    return torch.cat(list(inputs))


def split_features(features: Features, sizes: Sequence[int]) -> list[Features]:
    """Undo ``concat_inputs``: features of sum(sizes) rows -> one Features per size."""

    def split(rows: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * len(sizes) if rows is None else torch.split(rows, list(sizes))

    pooled = torch.split(features.pooled, list(sizes))
    others = map(split, (features.sequence, features.grid, features.mask))
    return [Features(*fields) for fields in zip(pooled, *others, strict=True)]
