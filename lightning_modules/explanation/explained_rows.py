"""Rows of which a task's answers are explained: how they, and parts of them, are answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from datamodules.modalities.forms import modality_of
from datamodules.modalities.text_pieces import TextPieces
from lightning_modules.encoders.base import Encoder, TokenLayer
from lightning_modules.explanation.linear_shares import Shares, linear_shares, term_shares
from lightning_modules.explanation.parts import (
    AdditivePart,
    LayerPart,
    Part,
    PicturePart,
    Pieces,
    SoundPart,
    TokenPart,
    added_up,
)
from lightning_modules.linear_network import LinearModel, LinearNetwork
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.predictor import RowBatch
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.answer_scores import AnswerScores
from lightning_modules.tasks.base import Task
from lightning_modules.views import TEXT
from lightning_modules.wide_path import ToOutput, WidePath
from pollinate.errors import UsageError
from pollinate.requirements import require

INPUT_PARTS: Mapping[str, type[PicturePart] | type[SoundPart]] = {
    "image": PicturePart,
    "audio": SoundPart,
}


@dataclass
class ExplainedTask:
    """A task of a network, by its name, and the numbers that its answers are explained by."""

    network: TaskNetwork
    name: str
    task: Task
    scores: AnswerScores


class ExplainedRows:
    """N rows of one data set, which all have the same modalities, as one task answers them.

    Args:
        explained: the task.
        given: the rows.
        texts: {form: their texts in pieces, with the form's tokens}; empty if they have none.

    Raises:
        UsageError: a text's encoder doesn't say how tokens become vectors.
    """

    def __init__(
        self,
        explained: ExplainedTask,
        given: RowBatch,
        texts: Mapping[str, Sequence[TextPieces]],
    ) -> None:
        self.explained = explained
        self.given = given
        self.dataset, self.batch, self.modalities = given.dataset, given.batch, given.modalities
        self.routes = {explained.name: (given.dataset,)}
        self.texts_by_form = dict(texts)
        self.texts = list(texts.get(TEXT, ()))
        self.parts = self._parts()

    def __len__(self) -> int:
        return len(self.batch.index)

    def answered_by(self, network: TaskNetwork) -> ExplainedRows:
        """Return the same rows, answered by another network of the same shape."""
        return ExplainedRows(
            replace(self.explained, network=network), self.given, self.texts_by_form
        )

    def answers(self, batch: Batch) -> Tensor:
        """Return the task's output of rows: (n, ...)."""
        network = self.explained.network
        # cuDNN has no derivatives of recurrent layers in evaluation mode
        with torch.backends.cudnn.flags(enabled=False):
            encoded = network.encode({self.dataset: batch}, self.routes)
            return network.predict(encoded, self.routes)[self.explained.name]

    def scores(self, values: Sequence[Tensor], rows: Tensor) -> Tensor:
        """Return the answers' numbers where parts have other values: (n, A).

        Args:
            values: (n, ...) of each part.
            rows: (n,) int64, the rows that the rest is taken from.
        """
        batch = taken(self.batch, rows)
        with ExitStack() as stack:
            for part, own in zip(self.parts, values, strict=True):
                if isinstance(part, LayerPart):
                    stack.enter_context(replaced_output(part.layer, own))
                elif isinstance(part, PicturePart | SoundPart):
                    batch = replace(batch, inputs={**batch.inputs, part.form: own})
            return self.explained.scores.of(self.answers(batch))

    def attribute(
        self, answers: Sequence[int], rows: Sequence[int], steps: int
    ) -> dict[str, list[Tensor]]:
        """Return what each piece adds to answers: {modality: n of (pieces, ...)}.

        Integrated gradients, (x - x') mean_a dF(x' + a (x - x')) / dx, Sundararajan et al. 2017,
        equation 1, by captum; exact for linear parts.

        Args:
            answers: n answers' numbers.
            rows: the row of each answer.
            steps: points between nothing and the row, >= 1.

        Raises:
            UsageError: captum isn't installed.
        """
        require("captum", "explain")
        from captum.attr import IntegratedGradients  # takes seconds

        places = torch.tensor(list(rows), device=self.batch.index.device)
        if not self.parts:
            return {}

        def forward(*given: Tensor) -> Tensor:
            *values, own = given
            # a part that this task doesn't read has a derivative all the same: 0
            unread = sum(one.nan_to_num(0.0).reshape(len(own), -1).sum(dim=1) for one in values)
            return self.scores(values, own) + 0 * torch.as_tensor(unread)[:, None]

        slopes = IntegratedGradients(forward, multiply_by_inputs=False).attribute(
            tuple(part.values[places] for part in self.parts),
            tuple(part.nothing[places] for part in self.parts),
            target=list(answers),
            additional_forward_args=(places,),
            n_steps=steps,
        )
        shares = [p.shares(s, places) for p, s in zip(self.parts, slopes, strict=True)]
        return {
            modality: [one.detach().cpu() for one in own]
            for modality, own in added_up(shares).items()
        }

    @torch.no_grad()
    def score_of(
        self, answers: Sequence[int], rows: Sequence[int], kept: Pieces | None = None
    ) -> Tensor:
        """Return the numbers of answers, some pieces left out: (n,) on the CPU.

        Args:
            answers, rows: as for ``attribute``.
            kept: as for ``Part.blended``; None: all are left out.
        """
        places = torch.tensor(list(rows), device=self.batch.index.device)
        values = [
            part.nothing[places] if kept is None else part.blended(kept, places)
            for part in self.parts
        ]
        found = self.scores(values, places)
        return found[torch.arange(len(places)), list(answers)].cpu()

    @torch.no_grad()
    def score_without(
        self, modalities: frozenset[str], answers: Sequence[int], rows: Sequence[int]
    ) -> Tensor:
        """Return the numbers of answers where rows lack modalities, as the network knows it: (n,).

        Args:
            modalities: that are left out.
            answers, rows: as for ``attribute``.
        """
        places = torch.tensor(list(rows), device=self.batch.index.device)
        batch = without(taken(self.batch, places), modalities)
        found = self.explained.scores.of(self.answers(batch))
        return found[torch.arange(len(places)), list(answers)].cpu()

    def _parts(self) -> list[Part]:
        """Find what the answer is computed from: inputs, tokens' vectors, linear models."""
        networks = [*leaves(self.explained.network, self.explained.name)]
        layers = [
            (layer, own)
            for own in networks
            if TEXT in self.modalities
            for layer in token_layers(own.network)
        ]
        additive = [
            (module, own)
            for own in networks
            for module in own.network.modules()
            if isinstance(module, WidePath | LinearModel)
        ]
        with ExitStack() as stack, torch.no_grad():
            watched = [
                (layer, stack.enter_context(seen_outputs(layer)))
                for layer in [*(one.layer for one, _ in layers), *(one for one, _ in additive)]
            ]
            self.answers(self.batch)
        seen = {id(layer): outputs[0] for layer, outputs in watched if outputs}
        found: list[Part] = [
            self._tokens(one, seen[id(one.layer)], self.texts_by_form[own.form(TEXT)])
            for one, own in layers
            if id(one.layer) in seen and len(seen[id(one.layer)]) == len(self)
        ]
        found += [
            self._additive(module, own)
            for module, own in additive
            if id(module) in seen and seen[id(module)].dim()
        ]
        forms = {
            own.form(modality): modality
            for own in networks
            if not isinstance(own.network, LinearNetwork)
            for modality in INPUT_PARTS
            if modality in self.modalities
        }
        found += [
            INPUT_PARTS[modality].of(form, self.batch.inputs[form])
            for form, modality in forms.items()
        ]
        return found

    def _tokens(self, one: TokenLayer, values: Tensor, texts: Sequence[TextPieces]) -> TokenPart:
        shares = [torch.from_numpy(text.tokens).to(values) for text in texts]
        nothing = values.clone()
        for row, tokens in enumerate(shares):
            nothing[row, : len(tokens)][tokens.sum(dim=1) > 0] = 0.0
        return TokenPart(values, nothing, one.layer, shares, one.pairs)

    def _additive(self, module: WidePath | LinearModel, own: Leaf) -> AdditivePart:
        batch = own.read(self.batch)
        texts = self.texts_by_form.get(own.form(TEXT), ())
        if isinstance(module, LinearModel):
            shares, columns, bias = linear_shares(module, batch, texts)
            scale = module.words.scale
            start: float | Tensor = module.task.neutral
            shift: ToOutput = module.task.linear_shift
        else:
            has_text = TEXT in self.modalities and TEXT in batch.terms
            shares = {TEXT: term_shares(module, batch, texts)} if has_text else {}
            columns, bias = module.read(batch), module.bias
            scale, shift, start = module.scale, module.to_output, 0.0
        values = start + scale * shift(columns)
        nothing = (start + scale * shift(bias[None])).expand_as(values)
        added: Shares = {
            modality: [scale * shifted(part, shift) for part in rows]
            for modality, rows in shares.items()
        }
        return AdditivePart(values, nothing, module, added)


def shifted(shares: Tensor, shift: ToOutput) -> Tensor:
    """Return what columns' parts add to an output: (pieces, K) -> (pieces, O).

    ``shift`` is linear but for a constant, which is of nothing.
    """
    flat = shares.reshape(-1, shares.shape[-1])
    found = shift(flat) - shift(torch.zeros_like(flat))
    return found.reshape(*shares.shape[:-1], -1)


@dataclass(frozen=True)
class Leaf:
    """A single network of a model.

    outer: {form of a modality, as what holds the network calls it: as batches call it}; empty: it
        has the same name.
    """

    network: TaskNetwork
    outer: Mapping[str, str]

    def form(self, modality: str) -> str:
        """Return what batches call a modality as the network reads it."""
        own = self.network.forms.get(modality, modality)
        return self.outer.get(own, own)

    def given(self, batch: Batch) -> Batch:
        """Return rows as the network is given them."""
        return batch.in_forms(self.outer) if self.outer else batch

    def read(self, batch: Batch) -> Batch:
        """Return rows as the network's parts read them."""
        return self.network.as_read({"": self.given(batch)})[""]


def leaves(
    network: TaskNetwork, task: str, outer: Mapping[str, str] | None = None
) -> Iterator[Leaf]:
    """Yield the single networks that a network answers a task by."""
    outer = outer or {}
    if tuple(network.networks) == (network,):
        if task in network.routes:
            yield Leaf(network, outer)
        return
    inner = {own: outer.get(there, there) for own, there in network.forms.items()} or outer
    for one in network.networks:
        yield from leaves(one, task, inner)


def token_layers(network: TaskNetwork) -> list[TokenLayer]:
    """Return the layers through which tokens come into any encoder of a single network.

    Raises:
        UsageError: a text's encoder doesn't say which they are.
    """
    if isinstance(network, MultiTaskNetwork) and TEXT in network.encoders:
        encoder = network.encoder(TEXT)
        if not encoder.token_layers():
            raise UsageError(
                f"words can be explained where the encoder of texts says how tokens become "
                f"vectors, {type(encoder).__name__} doesn't; give its class a method "
                "token_layers, as po.encoders.TokenLayer shows, or leave texts out"
            )
    encoders = [part for part in network.modules() if isinstance(part, Encoder)]
    return [layer for encoder in encoders for layer in encoder.token_layers()]


@contextmanager
def seen_outputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Gather what a layer gives."""
    found: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, output: found.append(output.detach()))
    try:
        yield found
    finally:
        hook.remove()


@contextmanager
def replaced_output(layer: nn.Module, output: Tensor) -> Iterator[None]:
    """Let a layer give something else."""
    hook = layer.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        hook.remove()


def taken(batch: Batch, rows: Tensor) -> Batch:
    """Return rows of a batch, of whose modalities all rows have each or none has it."""
    size = len(batch.index)
    return batch.map_tensors(lambda tensor: tensor[rows] if len(tensor) == size else tensor)


def without(batch: Batch, modalities: frozenset[str]) -> Batch:
    """Return rows that lack modalities, in all of their forms."""
    lost = {name for name in batch.inputs if modality_of(name) in modalities}
    inputs, words, terms = (
        {name: value[:0] if name in lost else value for name, value in values.items()}
        for values in (batch.inputs, batch.words, batch.terms)
    )
    lacking = torch.zeros_like(batch.index, dtype=torch.bool)
    has = {**batch.has, **dict.fromkeys(lost, lacking)}
    return replace(batch, inputs=inputs, words=words, terms=terms, has=has)
