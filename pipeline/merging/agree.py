"""Do models fit together? Names everything that doesn't."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from datamodules.loading import table_digest
from pipeline.configuration.flat import flat
from pipeline.configuration.suggest import shown
from pipeline.merging.parents import Parent

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


def problems(parents: Sequence[Parent], same_shape: bool) -> Iterator[str]:
    """Yield what keeps models from being one.

    Args:
        parents: two or more have something to disagree about.
        same_shape: whether their weights are to be merged; else only their answers.
    """
    if same_shape:
        yield from shape_problems(parents)
    for modality in sorted({m for parent in parents for m in parent.modalities}):
        some = [parent for parent in parents if modality in parent.modalities]
        forms = {parent.label: dict(parent.config["data"][modality]) for parent in some}
        yield from differences(f"data.{modality}", forms, AUGMENTATION, "they must read alike")
        yield from tokenizer_problems(modality, some)
    yield from dataset_problems(parents)
    yield from task_problems(parents)


def shape_problems(parents: Sequence[Parent]) -> Iterator[str]:
    """Yield differences between the networks."""
    widths = {parent.label: {"dim": parent.config["dim"]} for parent in parents}
    yield from differences("", widths, (), SAME)
    trunks = {parent.label: parent.config["trunk"] for parent in parents}
    yield from differences("trunk", trunks, TRAINING, SAME)
    for modality in sorted({m for parent in parents for m in parent.modalities}):
        some = [parent for parent in parents if modality in parent.modalities]
        nodes = {parent.label: parent.config["encoder"][modality] for parent in some}
        yield from differences(f"encoder.{modality}", nodes, TRAINING, SAME)
    yield from source_problems(parents)
    fused = [parent for parent in parents if parent.fuses]
    fusions = {parent.label: parent.config["fusion"] for parent in fused}
    yield from differences("fusion", fusions, TRAINING, SAME)


def source_problems(parents: Sequence[Parent]) -> Iterator[str]:
    """Yield models whose networks have other sources inside, or mix them otherwise."""
    some = [parent for parent in parents if parent.borrowed]
    others = [parent for parent in some if parent.borrowed != some[0].borrowed]
    if others:
        names = " and ".join(parent.label for parent in (some[0], *others))
        yield f"the sources inside the networks of {names}, or what reads them, differ; {SAME}"


def tokenizer_problems(modality: str, parents: Sequence[Parent]) -> Iterator[str]:
    """Yield models that learnt another tokenizer, or brought another one along."""
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


def dataset_problems(parents: Sequence[Parent]) -> Iterator[str]:
    """Yield data sets of one name that aren't one."""
    shared = False
    for name, some in by_name(parents, "datasets").items():
        shared = shared or len(some) > 1
        known = {p.label: p.spec["learnt"]["digests"][name] for p in some}
        digests = {label: {"content": table_digest(digest)} for label, digest in known.items()}
        advice = "data sets of one name must be one: give one of them another name"
        yield from differences(f"data.datasets.{name}", digests, (), advice)
        for part in ("inputs", "split"):
            nodes = {p.label: p.config["data"]["datasets"][name][part] for p in some}
            where = f"data.datasets.{name}.{part}"
            yield from differences(where, nodes, (), "rows that one tests another may train on")
    if shared:
        seeds = {p.label: {"seed": p.config["data"].get("seed", 0)} for p in parents}
        yield from differences("data", seeds, (), "rows that one tests another trained on")


def task_problems(parents: Sequence[Parent]) -> Iterator[str]:
    """Yield tasks of one name that aren't one."""
    for name, some in by_name(parents, "tasks").items():
        nodes = {p.label: facts(p.config["data"]["tasks"][name]) for p in some}
        advice = "tasks of one name must be one: give one of them another name"
        yield from differences(f"data.tasks.{name}", nodes, (), advice)
        learnt = {p.label: p.spec["learnt"]["tasks"][name] for p in some}
        yield from differences(f"task {name}:", learnt, (), advice)


def facts(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a task the one that it is."""
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
    leaves = {label: dict(flat(node)) for label, node in nodes.items()}
    for key in dict.fromkeys(key for known in leaves.values() for key in known):
        values = {label: known.get(key) for label, known in leaves.items()}
        first = next(iter(values.values()))
        if key.partition(".")[0] in ignored or all(value == first for value in values.values()):
            continue
        texts = [f"{short(value)} in {label}" for label, value in values.items()]
        separator = " " if where.endswith(":") else "."
        yield f"{where}{separator}{key}".lstrip(".") + f" is {', '.join(texts)}; {advice}"


def short(value: Any) -> str:
    """Return a value as its author would write it, cut if it is long."""
    text = shown(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
