"""The forms in which an ensemble's models read their inputs: one for all that read alike."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.modalities.forms import form_name, forms_of, modality_of
from lightning_modules.building import LINEAR, MODEL
from lightning_modules.views import TEXT
from pipeline.configuration.schema import dotted_items
from pipeline.merging.compatibility import AUGMENTATION
from pipeline.merging.parents import Parent

# the words of a tokenizer are compared by themselves, and terms can be counted for whom needs them
COUNTED, WORDS = "wide", "vocab_size"
OWN = {*AUGMENTATION, COUNTED, WORDS}  # options in which models that read alike may differ


@dataclass
class Form:
    """How a modality is read.

    options: of the configuration; learnt: the tokenizer, or what came with an encoder.
    """

    options: dict[str, Any]
    learnt: Any

    def reads_like(self, other: Form) -> bool:
        """Say whether a cell becomes the same tensors."""
        own, theirs = (
            {k: v for k, v in dotted_items(one.options) if k.partition(".")[0] not in OWN}
            for one in (self, other)
        )
        return own == theirs and self.learnt == other.learnt


def allot_forms(
    parents: Sequence[Parent],
) -> tuple[dict[str, Form], list[dict[str, str]]]:
    """Return the forms of an ensemble, and each model's: {form, as it calls it: as the whole does}.

    A linear model reads the terms of texts, which every form has.
    """
    found: dict[str, Form] = {}
    own: list[dict[str, str]] = [{} for _ in parents]
    for last in (False, True):
        for parent, names in zip(parents, own, strict=True):
            for name, form in parent_forms(parent).items():
                anyhow = parent.config.get(MODEL) == LINEAR and modality_of(name) == TEXT
                if anyhow == last:
                    names[name] = place_of(modality_of(name), form, found, anyhow)
    return found, own


def place_of(modality: str, form: Form, found: dict[str, Form], anyhow: bool) -> str:
    """Return the name of a form among those found, to which it is added if none reads like it.

    Args:
        modality: whose form; anyhow: whether any form of it will do.
    """
    known = forms_of(modality, found)
    name = next((one for one in known if anyhow or found[one].reads_like(form)), None)
    if name is None:
        name = form_name(modality, len(known) + 1)
        found[name] = copy.deepcopy(form)
    elif form.options.get(COUNTED):
        found[name].options[COUNTED] = True
    return name


def parent_forms(parent: Parent) -> dict[str, Form]:
    """Return the forms in which a model reads its inputs, several if it is such an ensemble."""
    data, learnt = parent.config["data"], parent.spec["learnt"]["modalities"]
    return {
        name: Form(dict(data[name]), learnt.get(name, {}))
        for modality in parent.modalities
        for name in forms_of(modality, data)
    }


def use_forms(config: dict[str, Any], learnt: dict[str, Any], forms: Mapping[str, Form]) -> None:
    """Have a configuration, and what was learnt, name these forms and no others."""
    data, known = config["data"], learnt["modalities"]
    for modality in {modality_of(name) for name in forms}:
        for nodes in (data, known):
            for name in forms_of(modality, list(nodes)):
                del nodes[name]
    data |= {name: form.options for name, form in forms.items()}
    known |= {name: form.learnt for name, form in forms.items()}
