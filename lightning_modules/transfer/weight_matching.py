"""Which weights of a source fit into this run's network: by name, shape and labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Size, Tensor

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.distributed import fixed_buffers
from lightning_modules.hooks import HookedModule
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.source_models import SourceModel
from lightning_modules.transfer.adapter_scales import (
    PART,
    refuse_other_kinds,
    scale_factors,
    tune_option,
)
from lightning_modules.wide_path import FITTED
from pollinate.errors import UsageError
from pollinate.overrides import option_text
from pollinate.suggest import hint, listing

# what peft puts into the names of a layer that has an adapter, and before those in its files
ADAPTER_PREFIX = re.compile(r"\.base_layer(?=\.)|\.default(?=\.weight$)|^base_model\.model\.")
MAGNITUDE = re.compile(r"(\.lora_magnitude_vector)\.weight$")
ENCODERS, HEADS, WIDE = "encoders.", "heads.", "wide."


@dataclass
class WeightMatch:
    """What ``match`` found.

    matched: {name here: name there}, of one shape.
    missing: names here that have nothing there.
    unexpected: names there that have no place here.
    mismatched: {name here: (shape there, shape here)} where only the shapes differ.
    """

    matched: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[Size, Size]] = field(default_factory=dict)


def match(
    here: Mapping[str, Size], there: Mapping[str, Size], renamed: Mapping[str, str]
) -> WeightMatch:
    """Pair weights by their names.

    Args:
        here, there: {name: shape}.
        renamed: {part here: part there}; the longest part that begins a name counts, "" is all.
    """
    known, found = {without_adapter(name): name for name in there}, WeightMatch()
    for name, shape in here.items():
        other = known.get(without_adapter(counterpart(name, renamed)))
        if other is None:
            found.missing.append(name)
        elif there[other] != shape:
            found.mismatched[name] = there[other], shape
        else:
            found.matched[name] = other
    used = {
        *found.matched.values(),
        *(known[without_adapter(counterpart(n, renamed))] for n in found.mismatched),
    }
    found.unexpected = [name for name in there if name not in used]
    return found


def counterpart(name: str, renamed: Mapping[str, str]) -> str:
    """Return the name there: ``trunk.a`` of ``encoder.a`` by {encoder: trunk}."""
    part = max((one for one in renamed if is_in_part(name, one)), key=len, default=None)
    if part is None:
        return name
    rest = name[len(part) :].lstrip(".")
    return ".".join(piece for piece in (renamed[part], rest) if piece)


def is_in_part(name: str, part: str) -> bool:
    """Say whether a weight's name begins with the name of a part; "" is the whole model."""
    return not part or f"{name}.".startswith(f"{part}.")


def without_adapter(name: str) -> str:
    """Return a weight's name without what an adapter beside its layer adds to it."""
    return MAGNITUDE.sub(r"\1", ADAPTER_PREFIX.sub("", name))


def parts_of(names: Iterable[str]) -> list[str]:
    """Return the parts that names belong to: ``trunk``, ``encoders.text``, ``heads.digit``."""
    found = dict.fromkeys(
        ".".join(name.split(".")[: 2 if name.startswith((ENCODERS, HEADS, WIDE)) else 1])
        for name in names
    )
    return sorted(found)


MAX_SHOWN = 3  # weights in a message
LIBRARY_HINT = (
    " Weights of another library are an encoder's: choose it, encoder/image=timm or "
    "encoder/text=transformers, with encoder.MODALITY.model=NAME or FOLDER."
)


@dataclass(frozen=True)
class MatchedWeights:
    """A source's weights that have a place in this run's network.

    source: where they are from.
    match: which of them.
    relabelled: heads of this network whose task has other labels there.
    factors: {name here: what its tensor is multiplied with}.
    wide: {task: its name there}, of tasks that take over the wide path with the head: they have no
        labelled rows here that one could be fitted to.
    """

    source: SourceModel
    match: WeightMatch
    relabelled: Sequence[str] = ()
    factors: Mapping[str, float] = field(default_factory=dict)
    wide: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        source: SourceModel,
        module: HookedModule,
        datamodule: MixedDataModule,
        parts: Sequence[str] | None,
        renamed: Mapping[str, str],
    ) -> MatchedWeights:
        """Find them.

        Args:
            source: the other model.
            module, datamodule: of this run.
            parts: of this network that are to be filled; None: all that have a counterpart.
            renamed: {part here: part there}.

        Raises:
            UsageError: a part isn't there, nothing fits, or shapes, labels or tokenizers differ.
        """
        network = module.network
        fitted = fixed_buffers(network)  # to this run's rows
        here = {n: size for n, size in shapes(network.state_dict()).items() if n not in fitted}
        there = shapes(source.single_network().weights)
        asked = [*(parts or ()), *renamed]
        for part in asked:
            require_part(part, here)
        renamed = renamed or (guess_mapping(network, there) if source.spec is None else {})
        other = relabelled(source, module, renamed)
        refuse_relabelled([head for head in other if head in asked], source)
        chosen = {
            name: shape
            for name, shape in here.items()
            if (parts is None or any(is_in_part(name, part) for part in parts))
            and not any(is_in_part(name, head) for head in other)
        }
        fit = cls(source, match(chosen, there, renamed), other)
        fit.refuse_tokens(datamodule)
        fit.refuse(asked)
        found = fit.match
        refuse_other_kinds(source, found.matched, found.missing, found.unexpected)
        factors = scale_factors(source, network, found.matched)
        return replace(fit, factors=factors, wide=wide_paths(network, found.matched, there))

    def weights(self) -> dict[str, Tensor]:
        """Return {name here: the source's tensor}, scaled as this run's adapters are."""
        found = {own: self.source.weights[name] for own, name in self.match.matched.items()}
        return {own: value * self.factors.get(own, 1) for own, value in found.items()}

    def copy_into(self, network: MultiTaskNetwork) -> None:
        """Give a network the source's tensors."""
        own = network.state_dict()
        with torch.no_grad():
            for name, value in self.weights().items():
                own[name].copy_(value)
        for task, there in self.wide.items():
            values = {name: self.source.weights[f"{WIDE}{there}.{name}"] for name in FITTED}
            network.wide_path(task).fill(values)

    def summary(self) -> list[str]:
        """Return what was taken, what wasn't, and what has no place here."""
        found, numbers = self.match, sum(w.numel() for w in self.weights().values())
        kept = [name for name in parts_of(found.missing) if name not in self.relabelled]
        wide = [f"{WIDE}{task}" for task in self.wide]
        lines = [
            f"from {self.source.name}: loaded {len(found.matched)} tensors, {numbers:,} values: "
            f"{', '.join([*parts_of(found.matched), *wide])}"
        ]
        if self.factors:
            factors = ", ".join(f"{factor:.4g}" for factor in sorted(set(self.factors.values())))
            lines.append(
                f"  adapters scaled by {factors}, since alpha / rank is another here: they say "
                "what they said there"
            )
        if self.relabelled:
            lines.append(f"  not loaded, because their labels differ: {', '.join(self.relabelled)}")
        if kept:
            lines.append(f"  not in the source: {len(found.missing)} tensors of {', '.join(kept)}")
        taken = tuple(f"{WIDE}{there}." for there in self.wide.values())
        unused = [name for name in found.unexpected if not name.startswith(taken)]
        if unused:
            some = ", ".join(parts_of(unused)[: MAX_SHOWN * 2])
            lines.append(f"  not used: {len(unused)} tensors of {some}")
        return lines

    def refuse(self, asked: Sequence[str]) -> None:
        """Check that all shapes fit, and that each part that was asked for got something.

        Raises:
            UsageError: they don't, or it didn't.
        """
        found = self.match
        if found.mismatched:
            some = [
                f"{name}: {tuple(there)} there, {tuple(here)} here"
                for name, (there, here) in list(found.mismatched.items())[:MAX_SHOWN]
            ]
            more = (
                f"; and {len(found.mismatched) - MAX_SHOWN} more"
                if len(found.mismatched) > MAX_SHOWN
                else ""
            )
            parts = [p for p in parts_of(found.matched) if p not in parts_of(found.mismatched)]
            rest = f", or take the rest alone: transfer.parts=[{', '.join(parts)}]" if parts else ""
            alike = "(dim, encoder, trunk)"
            adapter = next((name for name in found.mismatched if PART.search(name)), None)
            if adapter is not None:
                rank = min(found.mismatched[adapter][0])
                alike = f"({tune_option(adapter)}.rank={rank})"
            raise UsageError(
                f"weights of {self.source.name} have other shapes: {'; '.join(some)}{more}. Build "
                f"this run as that one {alike}{rest}"
            )
        empty = [
            part for part in asked if not any(is_in_part(name, part) for name in found.matched)
        ]
        if empty or not found.matched:
            lacking = ", ".join(empty) or "this network"
            theirs = parts_of(self.source.weights)
            own = next((p for p in parts_of(found.missing) if p.startswith(ENCODERS)), "trunk")
            part = empty[0] if empty else own
            foreign = LIBRARY_HINT if self.source.spec is None else ""
            raise UsageError(
                f"nothing of {self.source.name} fits {lacking}; it has {listing(theirs)}.{foreign} "
                f"Where names differ, say which part is which: transfer.map={{{part}: "
                f"{similar_part(empty, found, self.source) or 'PART OF THE SOURCE'}}}"
            )

    def refuse_tokens(self, datamodule: MixedDataModule) -> None:
        """Check that embeddings of tokens are of the same tokens."""
        paired = [*self.match.matched, *self.match.mismatched]
        reads = any(name.startswith("encoders.text.") for name in paired)
        if not reads or self.source.spec is None:
            return
        known = self.source.learnt["modalities"].get("text")
        if known != datamodule.modalities["text"].state_dict():
            taken = option_text("data.text.tokenizer", self.source.name)
            raise UsageError(
                f"the tokenizer of {self.source.name} is not this run's, so its embeddings mean "
                f"other tokens; take it over: {taken}, or leave the "
                "encoder out with transfer.parts"
            )


def shapes(weights: Mapping[str, Tensor]) -> dict[str, Size]:
    """Return {name: shape}."""
    return {name: value.shape for name, value in weights.items()}


def wide_paths(
    network: MultiTaskNetwork, matched: Mapping[str, str], there: Mapping[str, Size]
) -> dict[str, str]:
    """Return {task: its name there}, of those without a wide path that get a head that had one.

    Args:
        network: of this run.
        matched: {name here: name there}.
        there: {name: shape}.
    """
    found = {}
    for task in network.wide:
        heads = (name for own, name in matched.items() if is_in_part(own, f"{HEADS}{task}"))
        other = next(heads, "").removeprefix(HEADS).partition(".")[0]
        known = all(f"{WIDE}{other}.{name}" in there for name in FITTED)
        if known and not network.wide_path(task).fitted:
            found[task] = other
    return found


def require_part(part: str, names: Mapping[str, Size]) -> None:
    """Check that this network has a part."""
    if not any(is_in_part(name, part) for name in names):
        known = parts_of(names)
        raise UsageError(f"this network has no part {part!r}{hint(part, known, 'parts')}")


def relabelled(source: SourceModel, module: HookedModule, renamed: Mapping[str, str]) -> list[str]:
    """Return the heads whose task has other classes at the source."""
    if source.spec is None:
        return []
    found = []
    for task in module.tasks:
        there = counterpart(f"heads.{task}", renamed).removeprefix("heads.")
        known = source.learnt["tasks"].get(there)
        own = module.tasks[task].state_dict()
        if known is not None and known.get("classes") != own.get("classes"):
            found.append(f"heads.{task}")
    return found


def refuse_relabelled(heads: Sequence[str], source: SourceModel) -> None:
    """Refuse heads that were asked for."""
    if heads:
        raise UsageError(
            f"{', '.join(heads)} can't be taken from {source.name}, since the task's labels differ "
            "there. Leave the head out; it is trained anew"
        )


def guess_mapping(network: MultiTaskNetwork, there: Mapping[str, Size]) -> dict[str, str]:
    """Return the map by which most of another library's weights find their place.

    Its network may be that of any encoder here, and stand in a part of the file. Where only names
    are the same, as of an adapter of another rank, that is a place, too: shapes are refused later.
    """
    best: tuple[tuple[int, int], dict[str, str]] = ((0, 0), {})
    places = ["", *dict.fromkeys(name.partition(".")[0] for name in there)]
    for modality in network.encoders:
        encoder = network.encoder(modality)
        own = next(name for name, one in network.named_modules() if one is encoder.tuned_part())
        here = {
            f"{own}.{name}": value.shape
            for name, value in encoder.tuned_part().state_dict().items()
        }
        for place in places:
            found = match(here, there, {own: place})
            count = len(found.matched), len(found.mismatched)
            if count > best[0]:
                best = count, {own: place}
    return best[1]


def similar_part(parts: Sequence[str], found: WeightMatch, source: SourceModel) -> str | None:
    """Return a part of the source that could be what a part here asks for: of the same kind."""
    kinds = {part.partition(".")[0] for part in parts}
    return next((p for p in parts_of(found.unexpected) if p.partition(".")[0] in kinds), None)
