"""Builds tasks, modalities, networks and combinations of networks from a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from datamodules.mixed_datamodule import prompt_modality
from datamodules.modalities.base import Modality
from datamodules.modalities.defaults import MODALITIES, make_modality
from datamodules.modalities.forms import forms_of, modality_of
from lightning_modules.balancers.base import Balancer
from lightning_modules.encoders.base import Encoder, PlainEncoder, PretrainedEncoder
from lightning_modules.encoders.language_model import LanguageModel
from lightning_modules.fusions.base import Fusion
from lightning_modules.linear_network import LinearNetwork
from lightning_modules.network import HeadInput, MultiTaskNetwork, RestoresHeadInput, combination
from lightning_modules.task_network import CombinesNetworks, TaskNetwork
from lightning_modules.tasks.base import Task, names_in
from lightning_modules.trunks.base import Routes
from lightning_modules.tuning.base import Tuning
from lightning_modules.views import TEXT, RowView
from lightning_modules.wide_path import WidePath
from pollinate.errors import UsageError
from pollinate.instantiate import build, find_target, instantiate
from pollinate.recipes import TARGET, Buildable, Recipe, plain, recipe_of

Config = Mapping[str, Any]


TASK_DATA = ("dataset", "target", "unseen", "unlabelled")


def build_tasks(config: Config) -> dict[str, Task]:
    """Return {name: task}, without vocabulary yet."""
    allow = config["allow_targets"]
    return {
        name: instantiate(spec["type"], allow, f"data.tasks.{name}.type", **task_data(spec))
        for name, spec in config["data"]["tasks"].items()
    }


def task_data(spec: Config) -> dict[str, Any]:
    """Return the arguments of a task that say where its labels are."""
    return {"dataset": (), **{key: spec[key] for key in TASK_DATA if key in spec}}


def task_datasets(spec: Config) -> tuple[str, ...]:
    """Return the names of a task's data sets, those without labels last."""
    return (*names_in(spec.get("dataset", ())), *names_in(spec.get("unlabelled", ())))


def build_modalities(
    config: Config,
    tasks: Mapping[str, Task],
    learnt: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
) -> dict[str, Modality]:
    """Return {modality: how its raw values become tensors} for those that the data have.

    An ensemble whose networks read a modality differently has all of its forms.

    Args:
        config: a composed configuration.
        tasks: what the data are for.
        learnt: of the run to go on with, which knows the assets of its encoders.
        tokenizer: content of a tokenizer.json that a new run takes over; None: it trains its own.
    """
    used = {m for spec in config["data"]["datasets"].values() for m in spec["inputs"]}
    used |= {TEXT for task in tasks.values() if task.prompt is not None}
    missing = sorted(used - set(MODALITIES))
    if missing:
        raise UsageError(
            f"data uses the modalities {', '.join(missing)}; supported are {', '.join(MODALITIES)}"
        )
    forms = [form for name in sorted(used) for form in forms_of(name, config["data"])]
    known: dict[str, dict[str, Any]] = {form: {} for form in forms}  # what only a run knows
    words = any(task.view.words for task in tasks.values())
    for form in forms_of("text", forms):  # what was learnt has the tokenizers of further forms
        known[form] |= {"words": words, "tokenizer": tokenizer if form == "text" else None}
    node = config["data"]["image"].get("augment") if "image" in used else None
    if node is not None:
        transform = instantiate(node, config["allow_targets"], "data.image.augment")
        known["image"]["augment"] = transform
    for form in forms:
        found = pretrained_assets(config, form, learnt)
        if found:
            known[form]["assets"] = found
    return {
        form: make_modality(modality_of(form), {**config["data"][form], **known[form]})
        for form in forms
    }


def pretrained_assets(
    config: Config, modality: str, learnt: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the assets of a modality's encoder, empty for one that isn't pre-trained.

    Data are also loaded where no encoder is chosen, to be inspected.

    Args:
        config: a composed configuration.
        modality: whose encoder.
        learnt: of the run to go on with, None: a new one, whose model is asked.
    """
    if learnt is not None:
        return dict(learnt["modalities"][modality].get("assets", {}))
    node, key = config.get("encoder", {}).get(modality), f"encoder.{modality}"
    if node is None:
        return {}
    return assets_of(node, config["allow_targets"], key)


def assets_of(given: Any, allow: Sequence[str], key: str) -> dict[str, Any]:
    """Return the assets of a pre-trained encoder, its node or its recipe; of others nothing."""
    if isinstance(given, PretrainedEncoder):
        return dict(given.known)
    kind: type[Any]
    if isinstance(given, Recipe):
        kind, options = given.kind, given.options
    elif isinstance(given, Mapping):
        kind, options = find_target(given[TARGET], allow, key), given
    else:
        return {}
    return dict(kind.assets_of(options)) if issubclass(kind, PretrainedEncoder) else {}


def restore_vocabularies(
    config: Config, tasks: Mapping[str, Task], learnt: Config
) -> tuple[Mapping[str, Task], dict[str, Modality]]:
    """Return tasks and modalities with the vocabularies that a run learnt.

    A model of batches of tensors has no modalities.
    """
    modalities = build_modalities(config, tasks, learnt) if learnt["modalities"] else {}
    for name, task in tasks.items():
        task.load_state_dict(learnt["tasks"][name])
    for name, modality in modalities.items():
        modality.load_state_dict(learnt["modalities"][name])
    for name, task in tasks.items():
        if task.prompt is not None:
            task.use_codec(prompt_modality(name, task, modalities))
    return tasks, modalities


TUNE = "tune"  # key of an encoder's node that is no option of its class


def build_network(
    config: Config,
    tasks: Mapping[str, Task],
    modalities: Mapping[str, Modality],
    new: bool = False,
    head_input: Config | None = None,
) -> MultiTaskNetwork:
    """Return one network; tasks and modalities have their vocabularies.

    Args:
        config: a composed configuration.
        tasks: {name: task}.
        modalities: {name: modality}.
        new: whether pre-trained weights are loaded, which no checkpoint will replace.
        head_input: the node of what stands between trunk and heads in a checkpoint; None: nothing.

    Raises:
        UsageError: there is no encoder for a modality.
    """
    allow = config["allow_targets"]
    encoders, tunings = {}, {}
    routes = {name: task_datasets(spec) for name, spec in config["data"]["tasks"].items()}
    for name in modalities or config["encoder"]:
        if name not in config["encoder"]:
            raise UsageError(f"encoder.{name} is missing; choose one with encoder/{name}=NAME")
        known = modalities[name].encoder_arguments() if name in modalities else {}
        given, chosen = without_tuning(config["encoder"][name])
        encoder = build(given, allow, f"encoder.{name}", **known)
        if not isinstance(encoder, Encoder):
            encoder = PlainEncoder(encoder, config["dim"], name)
        if new and isinstance(encoder, PretrainedEncoder):
            encoder.load()
        if chosen is not None:
            own = tasks_of_modality(name, config["data"]["datasets"], routes, tasks)
            tunings[name] = apply_tuning(encoder, chosen, own, allow, f"encoder.{name}.{TUNE}")
        encoders[name] = encoder
    require_writer(tasks, encoders, new)
    trunk = build(config["trunk"], allow, "trunk", tasks=tasks_of_trunk(tasks))
    heads = {name: task.head(config["dim"]) for name, task in tasks.items()}
    views = {name: task.view for name, task in tasks.items()}
    fusions = build_fusions(config)
    readers = tasks_of_modality(TEXT, config["data"]["datasets"], routes, tasks)
    texts = config["data"].get(TEXT, {})
    wide = build_wide_paths(tasks, readers) if TEXT in modalities and texts.get("wide") else {}
    network = MultiTaskNetwork(encoders, trunk, heads, routes, fusions, views, tunings, wide)
    if head_input is not None:
        network.head_input = restore_head_input(head_input, allow)
    return network


def build_wide_paths(tasks: Mapping[str, Task], readers: Sequence[str]) -> dict[str, WidePath]:
    """Return {task: its wide path}, not fitted.

    Args:
        tasks: {name: task}.
        readers: tasks whose rows have texts.
    """
    return {
        name: WidePath(name, tasks[name].linear_shift)
        for name in readers
        if isinstance(tasks[name].view, RowView)
    }


HEAD_INPUT = "head_input"  # key of what a checkpoint says of the network's ``HeadInput``


def restore_head_input(node: Config, allow: Sequence[str]) -> HeadInput:
    """Return what stood between trunk and heads in training, with any weights.

    Raises:
        UsageError: the node names no class that can do so.
    """
    kind = find_target(node[TARGET], allow, HEAD_INPUT)
    if not issubclass(kind, RestoresHeadInput):
        raise UsageError(
            f"{HEAD_INPUT}._target_ must name a class that restores what stands between trunk and "
            f"heads, got {node[TARGET]}"
        )
    return kind.restore_head_input({k: v for k, v in node.items() if k != TARGET}, allow)


def require_encoders(config: Config) -> None:
    """Check that a checkpoint says how to build each encoder, or that it was given.

    Raises:
        UsageError: one was a module of one's own.
    """
    unknown = [name for name, node in config["encoder"].items() if node is None]
    if unknown:
        raise UsageError(
            f"the encoder of {' and '.join(unknown)} was a module of your own, which a checkpoint "
            f"can't build; give it: MultiTaskModule.load_from_checkpoint(path, encoders={{"
            f"{unknown[0]!r}: MODULE}})"
        )


def without_tuning(given: Any) -> tuple[Any, Any]:
    """Return an encoder's node or recipe without how much of it trains, and that, or None."""
    if isinstance(given, Recipe):
        rest = {name: value for name, value in given.options.items() if name != TUNE}
        return Recipe(given.kind, rest), given.options.get(TUNE)
    if isinstance(given, Mapping):
        return {name: value for name, value in given.items() if name != TUNE}, given.get(TUNE)
    return given, None


def tasks_of_modality(
    modality: str, datasets: Config, routes: Routes, tasks: Mapping[str, Task]
) -> list[str]:
    """Return the tasks that are predicted from rows of a modality; prompts are texts."""
    return [
        task
        for task, names in routes.items()
        if (modality == TEXT and tasks[task].prompt is not None)
        or any(modality in datasets[name]["inputs"] for name in names)
    ]


def tasks_of_trunk(tasks: Mapping[str, Task]) -> list[str]:
    """Return the tasks that read the trunk; all, where none does: a trunk is of some."""
    return [name for name, task in tasks.items() if not task.view.prompted] or list(tasks)


def require_writer(tasks: Mapping[str, Task], encoders: Mapping[str, Encoder], new: bool) -> None:
    """Check that there is a language model, and that it learns, for tasks that answer in words.

    Args:
        tasks: {name: task}.
        encoders: {modality: encoder}, of which is chosen what trains.
        new: whether it will be trained.

    Raises:
        UsageError: texts have another encoder, or nothing of it trains.
    """
    asked = [name for name, task in tasks.items() if task.prompt is not None]
    if not asked:
        return
    encoder = encoders[TEXT]
    if not isinstance(encoder, LanguageModel):
        raise UsageError(
            f"task {asked[0]} answers in words, which {type(encoder).__name__} can't; choose a "
            "language model: encoder/text=language_model encoder.text.model=NAME, or "
            "encoder/text=smollm2"
        )
    if new and not any(p.requires_grad for p in encoder.network.parameters()):
        raise UsageError(
            f"task {asked[0]} answers in words, of which nothing is learnt where no weight of the "
            "language model trains; choose encoder.text.tune=lora, task_lora, last_blocks or full"
        )


def apply_tuning(
    encoder: Encoder, node: Config, tasks: Sequence[str], allow: Sequence[str], key: str
) -> Tuning:
    """Choose how much of an encoder, which the given tasks read, trains.

    Raises:
        UsageError: ``node`` stands for no ``Tuning``, or for one that the encoder can't have.
    """
    tuning = build(node, allow, key)
    if not isinstance(tuning, Tuning):
        raise UsageError(
            f"{key} must be one of po.tuning, such as po.tuning.LoRA(), got {tuning!r:.60}"
        )
    try:
        tuning.apply(encoder, tasks)
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error
    return tuning


def build_fusions(config: Config) -> dict[str, Fusion]:
    """Return {combination of modalities: how they become one vector}, for rows of several."""
    combinations = {
        tuple(sorted(spec["inputs"]))
        for spec in config["data"]["datasets"].values()
        if len(spec["inputs"]) > 1
    }
    allow = config["allow_targets"]
    return {
        combination(names): build(config["fusion"], allow, "fusion", modalities=names)
        for names in sorted(combinations)
    }


def build_balancer(config: Config, tasks: Sequence[str]) -> Balancer:
    """Return the balancer; a method inside it is built for the same tasks.

    Raises:
        UsageError: a number among its options is infinite or NaN, or out of the method's range.
    """
    given, allow = config["balancer"], config["allow_targets"]
    if isinstance(given, Mapping):
        require_finite("balancer", given)
        given = {
            name: build(value, allow, f"balancer.{name}", tasks=tasks)
            for name, value in given.items()
        }
    balancer: Balancer = build(given, allow, "balancer", tasks=tasks)
    return balancer


def require_finite(path: str, value: object) -> None:
    """Check that there is no infinity and no NaN among options."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            require_finite(f"{path}.{name}", one)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{path} must be finite, got {value}")


# arguments of modalities that are no options: they are learnt, or come with an encoder
FOUND_BY_RUN = ("augment", "assets", "tokenizer", "words")


def describe_model(
    inputs: Mapping[str, Mapping[str, Any]],
    tasks: Mapping[str, Task],
    modalities: Mapping[str, Modality],
    encoders: Mapping[str, Any],
    trunk: Any,
    fusion: Any,
    dim: int,
) -> dict[str, Any]:
    """Return what ``build_model`` builds from, in the form that a composed configuration has.

    Args:
        inputs: {data set: {modality: its column, or columns}}.
        tasks: {name: task}.
        modalities: {name: modality}; those whose values come as tensors have none.
        encoders: {modality: a recipe, a node, or an encoder that is complete}.
        trunk, fusion: the same.
        dim: width of what encoders give to the trunk, >= 1.
    """

    def wide(part: Any) -> Any:
        if not isinstance(part, Recipe) or not part.takes("dim"):
            return part
        return Recipe(part.kind, {"dim": dim, **part.options})

    datasets = {name: {"inputs": dict(columns)} for name, columns in inputs.items()}
    specs = {
        name: {
            "type": recipe_of(task).node(),
            "dataset": [one for one in task.datasets if one not in task.unlabelled],
            "unlabelled": list(task.unlabelled),
        }
        for name, task in tasks.items()
    }
    options = {
        name: {key: value for key, value in one.arguments.items() if key not in FOUND_BY_RUN}
        for name, one in modalities.items()
    }
    return {
        "allow_targets": [],
        "data": {"datasets": datasets, "tasks": specs, **options},
        "encoder": {name: wide(encoder) for name, encoder in encoders.items()},
        "trunk": wide(trunk),
        "fusion": wide(fusion),
        "dim": dim,
    }


def as_plain_config(config: Config) -> dict[str, Any]:
    """Return a configuration as plain values; what has none, a module of one's own, is null."""

    def node(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: node(one) for name, one in value.items()}
        if isinstance(value, nn.Module) and not isinstance(type(value), Buildable):
            return None
        return plain(value)

    return {name: node(value) for name, value in config.items()}


MODEL, LINEAR = "model", "linear"  # key of what is no network with a trunk, and its value
# keys of a configuration of several networks: what each has of its own, and the node of the class
# that makes one model of them
MEMBERS, COMBINE = "members", "combine"
LABEL = "label"  # key of a member: its name
WIDE = "wide"  # key of a member that reads texts: whether it has wide paths
# key of a member where not all read alike: {form of a modality, as it calls it: as the whole does}
FORMS = "forms"


def build_combination(
    config: Config, tasks: Mapping[str, Task], modalities: Mapping[str, Modality]
) -> TaskNetwork:
    """Return the model of several networks, each with its own tasks; weights are a checkpoint's.

    Args:
        config: a configuration with ``combine`` and with ``members``, whose keys replace its own.
        tasks: {name: task}.
        modalities: {name: modality}.

    Raises:
        UsageError: ``combine`` names no class that makes one model of several networks.
    """
    node, allow = config[COMBINE], config["allow_targets"]
    kind = find_target(node[TARGET], allow, COMBINE)
    if not issubclass(kind, CombinesNetworks):
        raise UsageError(
            f"{COMBINE}._target_ must name a class that makes one model of several networks, got "
            f"{node[TARGET]}"
        )
    data, networks = config["data"], {}
    shared = {key: value for key, value in config.items() if key not in (MEMBERS, COMBINE, FORMS)}
    for place, own in enumerate(config[MEMBERS]):
        datasets = {name: data["datasets"][name] for name in own["datasets"]}
        used = {modality for spec in datasets.values() for modality in spec["inputs"]}
        specs = {name: data["tasks"][name] for name in own["tasks"]}
        used |= {TEXT for name in own["tasks"] if tasks[name].prompt is not None}
        forms = own.get(FORMS) or {name: name for name in modalities if name in used}
        changes = {"datasets": datasets, "tasks": specs}
        changes |= {name: data[there] for name, there in forms.items()}
        if WIDE in own:
            changes[TEXT] = {**changes[TEXT], "wide": own[WIDE]}
        network = build_model(
            {**shared, **own, "data": {**data, **changes}},
            {name: tasks[name] for name in own["tasks"]},
            {name: modalities[there] for name, there in forms.items()},
            head_input=own.get(HEAD_INPUT),
        )
        network.forms = own.get(FORMS, {})
        networks[own.get(LABEL, str(place))] = network
    routes = {name: task_datasets(spec) for name, spec in data["tasks"].items()}
    return kind.combine(networks, tasks, routes, {k: v for k, v in node.items() if k != TARGET})


def build_model(
    config: Config,
    tasks: Mapping[str, Task],
    modalities: Mapping[str, Modality],
    head_input: Config | None = None,
) -> TaskNetwork:
    """Return the model of a checkpoint, without its weights: a network, or several, or linear.

    Args:
        config: a composed configuration.
        tasks: {name: task}, with vocabularies, as the modalities.
        modalities: {name: modality}.
        head_input: as for ``build_network``; a combination's configuration has one in each member.

    Raises:
        UsageError: there is no encoder for a modality.
    """
    if MEMBERS in config:
        return build_combination(config, tasks, modalities)
    if config.get(MODEL) == LINEAR:
        data = config["data"]
        routes = {name: task_datasets(spec) for name, spec in data["tasks"].items()}
        inputs = {name: list(spec["inputs"]) for name, spec in data["datasets"].items()}
        return LinearNetwork(tasks, routes, inputs)
    return build_network(config, tasks, modalities, head_input=head_input)
