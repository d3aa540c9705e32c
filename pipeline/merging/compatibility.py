"""Can these models be merged by this method? Names everything that doesn't fit, before any work."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.loading import table_digest
from lightning_modules.merging.evaluator import network_part
from lightning_modules.merging.models import Models, unrelated_models
from pipeline.configuration.schema import dotted_items
from pipeline.merging.parents import Parent
from pollinate.errors import UsageError
from pollinate.suggest import shown

# options that change how a part is trained, not what it computes when it answers
TRAINING = {
    "dropout",
    "checkpointing",
    "weights",
    "file",
    "tune",
    "seed",
    "strength",
    "orthogonality",
    "entropy",
    "unused",
}
# options of a modality that change training rows only; tokenizers are compared by themselves
AUGMENTATION = {
    "tokenizer",
    "shift",
    "rotate",
    "scale",
    "flip",
    "augment",
    "dropout",
    "time_masks",
    "time_share",
    "band_masks",
    "band_width",
}
FACTS = ("dataset", "unlabelled", "target")  # what makes a task the one that it is
LONGEST = 60  # characters of a value in a message
SAME = "only models of one shape are merged weight by weight; method=ensemble takes any"


def mismatches(parents: Sequence[Parent], same_shape: bool, alike: Sequence[str]) -> Iterator[str]:
    """Yield what keeps models from being one.

    Args:
        parents: two or more have something to disagree about.
        same_shape: whether their weights are to be merged; else only their answers.
        alike: modalities that all must read in one way.
    """
    if same_shape:
        yield from shape_mismatches(parents)
    for modality in alike:
        some = [parent for parent in parents if modality in parent.modalities]
        forms = {parent.label: dict(parent.config["data"][modality]) for parent in some}
        own = AUGMENTATION if same_shape else {*AUGMENTATION, "wide"}  # each member's network's
        yield from differences(f"data.{modality}", forms, own, "they must read alike")
        yield from tokenizer_mismatches(modality, some)
    yield from dataset_mismatches(parents)
    yield from task_mismatches(parents)


def shape_mismatches(parents: Sequence[Parent]) -> Iterator[str]:
    widths = {parent.label: {"dim": parent.config["dim"]} for parent in parents}
    yield from differences("", widths, (), SAME)
    trunks = {parent.label: parent.config["trunk"] for parent in parents}
    yield from differences("trunk", trunks, TRAINING, SAME)
    for modality in sorted({m for parent in parents for m in parent.modalities}):
        some = [parent for parent in parents if modality in parent.modalities]
        nodes = {parent.label: parent.config["encoder"][modality] for parent in some}
        yield from differences(f"encoder.{modality}", nodes, TRAINING, SAME)
    yield from source_mismatches(parents)
    fused = [parent for parent in parents if parent.fuses]
    fusions = {parent.label: parent.config["fusion"] for parent in fused}
    yield from differences("fusion", fusions, TRAINING, SAME)


def source_mismatches(parents: Sequence[Parent]) -> Iterator[str]:
    """Yield models whose networks have other sources inside, or mix them otherwise."""
    some = [parent for parent in parents if parent.head_input]
    others = [parent for parent in some if parent.head_input != some[0].head_input]
    if others:
        names = " and ".join(parent.label for parent in (some[0], *others))
        yield f"the sources inside the networks of {names}, or what reads them, differ; {SAME}"


def tokenizer_mismatches(modality: str, parents: Sequence[Parent]) -> Iterator[str]:
    if not parents:
        return
    first, *others = parents
    own = first.spec["learnt"]["modalities"][modality]
    for other in others:
        if other.spec["learnt"]["modalities"][modality] != own:
            what = "tokenizer" if modality == "text" else f"preprocessing of {modality}"
            yield (
                f"the {what} of {other.label} is not that of {first.label}; train both with one, "
                "such as data.text.tokenizer=RUN, or that of one pre-trained encoder"
            )


def dataset_mismatches(parents: Sequence[Parent]) -> Iterator[str]:
    shared = False
    for name, some in by_name(parents, "datasets").items():
        shared = shared or len(some) > 1
        known = {p.label: p.spec["learnt"]["digests"][name] for p in some}
        digests = {label: {"content": table_digest(digest)} for label, digest in known.items()}
        advice = "data sets of one name must be one: give one of them another name"
        yield from differences(f"data.datasets.{name}", digests, (), advice)
        advice = "rows that one tests another may train on"
        noted = {p.label: p.spec["learnt"].get("rows", {}).get(name) for p in some}
        rows = {label: {"rows": digest} for label, digest in noted.items() if digest is not None}
        yield from differences(f"data.datasets.{name}", rows, (), advice)
        for part in ("inputs", "split"):
            nodes = {p.label: p.config["data"]["datasets"][name][part] for p in some}
            where = f"data.datasets.{name}.{part}"
            yield from differences(where, nodes, (), advice)
    if shared:
        seeds = {p.label: {"seed": p.config["data"].get("seed", 0)} for p in parents}
        yield from differences("data", seeds, (), "rows that one tests another trained on")


def task_mismatches(parents: Sequence[Parent]) -> Iterator[str]:
    for name, some in by_name(parents, "tasks").items():
        nodes = {p.label: task_facts(p.config["data"]["tasks"][name]) for p in some}
        advice = "tasks of one name must be one: give one of them another name"
        yield from differences(f"data.tasks.{name}", nodes, (), advice)
        learnt = {p.label: p.spec["learnt"]["tasks"][name] for p in some}
        yield from differences(f"task {name}:", learnt, (), advice)


def task_facts(task: Mapping[str, Any]) -> dict[str, Any]:
    kind = task["type"]["_target_"].rpartition(".")[2].lower()
    return {"type": kind, **{key: task.get(key) for key in FACTS}}


def by_name(parents: Sequence[Parent], part: str) -> dict[str, list[Parent]]:
    """Return {data set or task: models that have it}."""
    found: dict[str, list[Parent]] = {}
    for parent in parents:
        for name in parent.config["data"][part]:
            found.setdefault(name, []).append(parent)
    return found


def differences(
    where: str, nodes: Mapping[str, Any], ignored: Collection[str], advice: str
) -> Iterator[str]:
    """Yield ``key is 16 in a, 32 in b; advice`` for each value in which models differ.

    Args:
        where: path of the nodes.
        nodes: {model: its node}.
        ignored: first parts of keys that may differ.
        advice: what to do, or why it matters.
    """
    leaves = {label: dict(dotted_items(node)) for label, node in nodes.items()}
    for key in dict.fromkeys(key for known in leaves.values() for key in known):
        values = {label: known.get(key) for label, known in leaves.items()}
        first = next(iter(values.values()))
        if key.partition(".")[0] in ignored or all(value == first for value in values.values()):
            continue
        texts = [f"{short_value(value)} in {label}" for label, value in values.items()]
        separator = " " if where.endswith(":") else "."
        yield f"{where}{separator}{key}".lstrip(".") + f" is {', '.join(texts)}; {advice}"


def short_value(value: Any) -> str:
    """Return a value as its author would write it, cut if it is long."""
    text = shown(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


Shapes = Mapping[str, tuple[int, ...]]


def check_starts(models: Models, base: Parent | None) -> list[str]:
    """Check that models come from the start; return what is odd about them without one."""
    if base is not None:
        check_base(models, base)
    found = list(unrelated_models(models))
    if base is not None and found:
        texts = ", ".join(f"{one.model} (cosine {one.cosine:.2f})" for one in found)
        raise UsageError(
            f"base {base.path} isn't the start of {texts}: their weights are as unrelated as "
            "those of two random networks, so their difference isn't what was learnt. "
            "Give the checkpoint that they were trained from, or use method=ensemble"
        )
    return [
        f"note: {one.model} and {one.other} don't have a common start (cosine of their weights "
        f"{one.cosine:.2f}): merging such models usually gives chance level; train them from one "
        "checkpoint, or average their predictions: method=ensemble"
        for one in found
    ]


def without_start(models: Models) -> list[str]:
    """Return a note of what several models trained, and which no common start is known of.

    Args:
        models: whose base is what stands beside their adapters.
    """
    parts = {
        network_part(unit.name)
        for unit in models.units
        if models.is_merged(unit) and not unit.in_base and not unit.is_own
    }
    if not parts:
        return []
    return [
        f"note: weights of {', '.join(sorted(parts))} that adapters aren't beside are averaged, as "
        "nothing says what they were before training; base=CHECKPOINT does"
    ]


def check_fitted(models: Models, fitted: Collection[str]) -> None:
    """Check that what was fitted to rows, and isn't trained, is one in all models.

    Args:
        models: that are merged.
        fitted: names of such tensors.
    """
    states = [read() for read in models.read]
    for name in sorted(fitted):
        found = {m: s[name] for m, s in zip(models.labels, states, strict=True) if name in s}
        first, *others = found.items()
        for label, tensor in others:
            if not torch.equal(tensor, first[1]):
                raise UsageError(
                    f"{name} must be one in all models, and {label}'s isn't {first[0]}'s: linear "
                    "models of other training rows have no mean; train with the same rows and "
                    "labels, or average predictions: method=ensemble"
                )


def check_base(models: Models, base: Parent) -> None:
    missing = [
        unit.name
        for unit in models.units
        if unit.is_weight and not unit.is_own and not unit.in_base and len(unit.owners) > 1
    ]
    if missing:
        raise UsageError(
            f"base {base.path} has no {missing[0]}{more(missing)}, which several models have: what "
            "they learnt since can't be told; give the checkpoint that they were trained on from"
        )


def check_complete(found: Shapes, wanted: Shapes, trunk: str) -> None:
    """Check that tensors are just those of the network that the result is."""
    wrong = [name for name in wanted if found.get(name) != wanted[name]]
    wrong += [name for name in found if name not in wanted]
    if wrong:
        name = wrong[0]
        raise UsageError(
            f"one network for all tasks would have {name} of shape {shape(wanted, name)}, the "
            f"models have {shape(found, name)}{more(wrong)}: trunk {trunk} has parts for pairs or "
            "sets of tasks. Merge models of the same tasks, or average predictions: method=ensemble"
        )


def check_finite(state: Mapping[str, Tensor]) -> None:
    wrong = [
        name
        for name, value in state.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if wrong:
        raise UsageError(
            f"the merge's {wrong[0]}{more(wrong)} must be finite, got nan or inf: a coefficient "
            "that is no finite number, one that is far too large, or a model that has diverged"
        )


def shape(shapes: Shapes, name: str) -> str:
    return str(shapes[name]) if name in shapes else "none"


def more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
