"""One configuration for the model that several become."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from datamodules.loading import table_digest
from datamodules.modalities.forms import modality_of
from lightning_modules.building import (
    COMBINE,
    FORMS,
    HEAD_INPUT,
    LABEL,
    MEMBERS,
    MODEL,
    TUNE,
    WIDE,
    build_tasks,
)
from lightning_modules.checkpoints import MERGED_KEY, SPEC_FORMAT
from lightning_modules.views import TEXT
from pipeline.configuration.composition import load_yaml
from pipeline.configuration.groups import SHIPPED
from pipeline.merging.adapters import Tunes
from pipeline.merging.compatibility import mismatches
from pipeline.merging.forms import allot_forms, use_forms
from pipeline.merging.parents import Parent
from pollinate.suggest import raise_all
from pollinate.version import VERSION

# what a model that isn't trained has in place of its parents' ways of training
NEUTRAL = {"balancer": "equal", "transfer": "none"}
# what a member of an ensemble has of its own; the last two if it is an ensemble itself
NETWORK = (MODEL, "encoder", "fusion", "trunk", "dim", MEMBERS, COMBINE)


def merged_spec(
    parents: Sequence[Parent],
    base: Parent | None,
    combine: Mapping[str, Any] | None,
    name: str,
    allow: Sequence[str],
) -> dict[str, Any]:
    """Return what a checkpoint says of its model, for the one that is made.

    Data sets and tasks are those of all parents; what doesn't matter to the network is the first
    one's.

    Args:
        parents: one or more.
        base: the common start, or None.
        combine: the node of the method, if its result holds the parents' networks; None: it has
            one network, of their shape.
        name: of the result.
        allow: packages, besides our own, whose classes may be named.
    """
    if combine is None:
        alike = sorted({m for parent in parents for m in parent.modalities})
    else:
        alike = modalities_of_targets(parents, allow)
    found = list(mismatches(parents, combine is None, alike))
    if base is not None:
        found += [p for p in mismatches([base, *parents], True, alike) if p not in found]
    raise_all(list(dict.fromkeys(found)))
    config = copy.deepcopy(parents[0].config)
    for parent in parents:
        for part in ("datasets", "tasks"):
            for key, node in parent.config["data"][part].items():
                config["data"][part].setdefault(key, copy.deepcopy(node))
        for modality in parent.modalities:
            if modality not in parents[0].modalities:
                config["data"][modality] = copy.deepcopy(parent.config["data"][modality])
                config["encoder"][modality] = copy.deepcopy(parent.config["encoder"][modality])
    fused = next((p for p in parents if p.fuses), parents[0])
    config["fusion"] = copy.deepcopy(fused.config["fusion"])
    config |= {group: option(group, chosen) for group, chosen in NEUTRAL.items()}
    config |= {"name": name, "resume": None, "run_dir": None, "compile": False}
    config["sampler"] = merged_sampler(parents)
    learnt = merged_learnt(parents)
    if combine is not None:
        forms, own = allot_forms(parents)
        use_forms(config, learnt, forms)
        config[COMBINE] = dict(combine)
        several = any(modality_of(name) != name for name in forms)
        config[MEMBERS] = [
            member_spec(parent, names if several else {})
            for parent, names in zip(parents, own, strict=True)
        ]
        learnt.pop(HEAD_INPUT, None)  # each member has its own
    return {
        "format": SPEC_FORMAT,
        "version": VERSION,
        "config": config,
        "learnt": learnt,
        MERGED_KEY: {"parents": [parent.record() for parent in parents]},
    }


def with_tunes(spec: Mapping[str, Any], tunes: Tunes) -> dict[str, Any]:
    """Return what a checkpoint says of its model, with other adapters beside encoders.

    Args:
        spec: what it says.
        tunes: {modality: what stands beside its encoder, None: nothing} where models have adapters.
    """
    found = copy.deepcopy(dict(spec))
    for modality, tune in tunes.items():
        found["config"]["encoder"][modality][TUNE] = copy.deepcopy(tune)
    return found


def merged_learnt(parents: Sequence[Parent]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for parent in parents:
        for kind, values in parent.spec["learnt"].items():
            known = found.setdefault(kind, {})
            for key, value in values.items():
                known.setdefault(key, copy.deepcopy(value))
    for name, digest in found["digests"].items():
        others = {parent.spec["learnt"]["digests"].get(name, digest) for parent in parents}
        if len(others) > 1:
            found["digests"][name] = table_digest(digest)
    return found


def modalities_of_targets(parents: Sequence[Parent], allow: Sequence[str]) -> list[str]:
    """Return the modalities that a task's targets have the form of, so that all read them alike.

    Those are pictures whose pixels are labelled, and texts where answers are tokens.
    """
    configs = [{**parent.config, "allow_targets": list(allow)} for parent in parents]
    tasks = [task for config in configs for task in build_tasks(config).values()]
    mapped = {task.maps.modality for task in tasks if task.maps is not None}
    return sorted(mapped | {TEXT for task in tasks if task.prompt is not None})


def member_spec(parent: Parent, forms: Mapping[str, str]) -> dict[str, Any]:
    """Return what a model has of its own in an ensemble.

    Args:
        forms: {form, as it calls it: as the whole does}; empty where all read alike.
    """
    own = {key: copy.deepcopy(parent.config[key]) for key in NETWORK if key in parent.config}
    if TEXT in parent.modalities:
        own[WIDE] = has_wide_paths(parent)
    if forms:
        own[FORMS] = dict(forms)
    if parent.head_input:
        own[HEAD_INPUT] = copy.deepcopy(parent.head_input)
    return {**own, LABEL: parent.label, "tasks": parent.tasks, "datasets": parent.datasets}


def has_wide_paths(parent: Parent) -> bool:
    """Say whether a model of texts, or a member of it, has a linear model beside its encoder."""
    return bool(parent.config["data"].get(TEXT, {}).get("wide"))


def merged_sampler(parents: Sequence[Parent]) -> dict[str, Any]:
    """Return how training steps are drawn, which BatchNorm's statistics are computed on."""
    first = parents[0]
    if all(set(parent.datasets) == set(first.datasets) for parent in parents):
        own: dict[str, Any] = copy.deepcopy(first.config["sampler"])
        return own
    sizes = [parent.config["sampler"].get("batch_size", 1) for parent in parents]
    count = len({name for parent in parents for name in parent.datasets})
    return option("sampler", "temperature") | {"batch_size": max(*sizes, count)}


def option(group: str, name: str) -> dict[str, Any]:
    node: Any = OmegaConf.to_container(load_yaml(SHIPPED / group / f"{name}.yaml"))
    return dict(node)
