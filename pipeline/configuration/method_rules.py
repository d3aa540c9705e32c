"""Rules for nodes with ``_target_``, for ``trainer``, ``optimizer.lr_scale`` and ``transfer``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datamodules.dataset_rules import is_number
from pipeline.configuration.data_rules import MODALITIES
from pipeline.configuration.schema import UNSET, dotted_items
from pipeline.configuration.signatures import (
    Option,
    Signature,
    class_names,
    class_signature,
    describe_type,
    find_class,
    fits_type,
    module_file,
    signature_of_source,
    text_hint,
)
from pollinate.instantiate import allowed_at, may_reach, refusal
from pollinate.names import RESERVED_NAMES
from pollinate.suggest import hint, shown

# options that the builders use themselves instead of handing them to the class
CONSUMED = {
    "optimizer": {"lr_scale"},
    **{f"encoder.{modality}": {"tune"} for modality in MODALITIES},
}

# arguments of a task that stand beside its type
TASK_DATA = ("dataset", "target", "unseen", "unlabelled")
TASK_TYPE = re.compile(r"data\.tasks\.[^.]+\.type")


def component_problems(config: Mapping[str, Any], allow: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with any node that names a class, wherever it is."""
    for path, node in _components(config, ""):
        target = node["_target_"]
        if target == UNSET:
            continue
        if reason := refusal(target, allow, path):
            yield f"{path}._target_ {reason}"
        elif (found := find_class(target)) is None:
            yield _not_found(path, target)
        elif not may_reach(found.module, allow):
            told = f"is refused, defined in {found.module}: {allowed_at(path)}"
            yield f"{path}._target_ {target} {told}"
        else:
            yield from _option_problems(path, node, target, signature_of_source(found))


def _components(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, dict) and "_target_" in node:
        yield path, node
    items = node.items() if isinstance(node, dict) else ()
    numbered = enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _components(value, f"{path}.{key}" if path else str(key))
    for i, value in numbered:
        yield from _components(value, f"{path}[{i}]")


def _not_found(path: str, target: str) -> str:
    module, _, name = target.rpartition(".")
    if module_file(module) is None:
        return f"{path}._target_ names no module: {module} is not installed or not on PYTHONPATH"
    known = class_names(module)
    return f"{path}._target_ names no class: {module} has no {name!r}{hint(name, known, 'classes')}"


def _option_problems(
    path: str, node: Mapping[str, Any], target: str, found: Signature
) -> Iterator[str]:
    own = {"_target_", *CONSUMED.get(path, ())}
    beside = TASK_DATA if TASK_TYPE.fullmatch(path) else ()
    options = {name: option for name, option in found.options.items() if name not in beside}
    names = [*options, *CONSUMED.get(path, ())]
    for name, value in node.items():
        if name in own or value == UNSET:
            continue
        if name in options:
            yield from value_problems(f"{path}.{name}", value, options[name])
        elif name in beside or not found.open:
            yield (
                f"unknown option {path}.{name}={shown(value)} of {target}"
                f"{hint(name, names, 'allowed')}"
            )


def value_problems(path: str, value: Any, option: Option) -> Iterator[str]:
    if value is None and option.nullable:
        return
    if not fits_type(value, option.annotation, option.aliases):
        wanted, advice = describe_type(option.annotation), text_hint(value, option.annotation)
        yield f"{path} must be {wanted}, got {shown(value)}{advice}"


def tracking_problems(node: Any) -> Iterator[str]:
    name = node.get("register") if isinstance(node, dict) else None
    if isinstance(name, str):
        yield from register_problems(name)


def register_problems(name: str) -> Iterator[str]:
    """Yield what is wrong with a model's name in MLflow's registry, which looks at it late."""
    if not name.strip() or not {"/", ":"}.isdisjoint(name) or name in (".", ".."):
        yield f"tracking.register must be a name without / and :, or null, got {shown(name)}"


TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
SWITCHES = ("enable_progress_bar", "enable_model_summary")  # what they switch is made by us
SHARDED, LOCAL, BRANCHES = "fsdp2", "local", "branches"  # strategies of ours
AVERAGING = "averaging"  # our option that goes with the second
LOCAL_STRATEGIES = (LOCAL, BRANCHES)  # with these, processes step on their own
SHARDED_PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16-true", "bf16", "16-true")
LENGTHS = {  # options that say how long a run is, and what says that it has no such end
    "max_epochs": "-1, with trainer.max_steps=N, for any number of them",
    "max_steps": "leave it out to use only trainer.max_epochs; to resume a finished run, give more",
}
# options of the Trainer that Pollinate sets itself, and the key to use instead
RESERVED = {
    "barebones": "the options that it bundles, such as trainer.log_every_n_steps=0",
    "fast_dev_run": "trainer.max_steps=2",
    "model_registry": "tracking=mlflow",
    "enable_autolog_hparams": "tracking=OPTION",
    "limit_predict_batches": "a smaller input of pollinate predict",
    "reload_dataloaders_every_n_epochs": "a sampler, as rows of all epochs are known at the start",
    "logger": "tracking=OPTION",
    "callbacks": "checkpoint.*, early_stopping.*, ema_decay or transfer=OPTION",
    "default_root_dir": "run_dir=PATH",
    "enable_checkpointing": "checkpoint.every_n_steps=N",
    "use_distributed_sampler": "sampler=OPTION",
    "plugins": "trainer.strategy and trainer.precision",
}


def trainer_options() -> dict[str, Option]:
    found = class_signature(TRAINER)
    options = found.options if found else {}
    return {name: option for name, option in options.items() if name not in RESERVED}


def trainer_problems(trainer: Any) -> Iterator[str]:
    options = trainer_options()
    for name, value in trainer.items() if isinstance(trainer, dict) else ():
        if name == AVERAGING:
            continue  # a class of ours, checked as such
        if name in RESERVED:
            yield f"trainer.{name}={shown(value)} is set by Pollinate; use {RESERVED[name]} instead"
        elif name not in options:
            yield (f"unknown option trainer.{name}={shown(value)}{hint(name, options, 'allowed')}")
        elif value != UNSET:
            yield from value_problems(f"trainer.{name}", value, options[name])
            yield from _length_problems(name, value)
            yield from _number_problems(name, value)


LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches")
AT_LEAST = {"log_every_n_steps": 0, "accumulate_grad_batches": 1, "num_sanity_val_steps": -1}


def _number_problems(name: str, value: Any) -> Iterator[str]:
    """Yield limits that leave nothing to train on, or are no share, and numbers out of range."""
    if not is_number(value):
        return
    share = isinstance(value, float)
    if name in LIMITS and not (0 <= value <= 1 if share else value >= 0):
        yield (
            f"trainer.{name} must be a number of batches >= 0, or a share in [0.0, 1.0] with a "
            f"point, got {shown(value)}"
        )
    elif name == "limit_train_batches" and value == 0:
        yield (
            "trainer.limit_train_batches must be > 0, got 0: there is nothing to train; pollinate "
            "evaluate measures a checkpoint"
        )
    elif name in AT_LEAST and value < AT_LEAST[name]:
        yield f"trainer.{name} must be >= {AT_LEAST[name]}, got {shown(value)}"


HALF = ("16-true", "transformer-engine-float16")
SMALLEST_HALF = 6e-8  # above 0


def precision_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield an optimizer that would divide by 0: in 16 bits a small ``eps`` is none."""
    trainer, node = config.get("trainer"), config.get("optimizer")
    if not isinstance(trainer, dict) or trainer.get("precision") not in HALF:
        return
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        return
    signature = class_signature(node["_target_"])
    if signature is None or "eps" not in signature.options:
        return
    value = node.get("eps")
    if value is None or (is_number(value) and value < SMALLEST_HALF):
        got = "its default" if value is None else shown(value)
        yield (
            f"optimizer.eps must be >= {SMALLEST_HALF} with trainer.precision="
            f"{trainer['precision']}, whose 16 bits make less than that 0, got {got}; set "
            "optimizer.eps=1e-4, or use trainer.precision=16-mixed or bf16-true"
        )


def _length_problems(name: str, value: Any) -> Iterator[str]:
    """Yield a run of no steps; -1 is Lightning's word for no end."""
    if name in LENGTHS and is_number(value) and value < 1 and (name, value) != ("max_epochs", -1):
        yield f"trainer.{name} must be >= 1, got {shown(value)}; {LENGTHS[name]}"


def sharding_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a model whose weights are sharded can't have."""
    trainer = config.get("trainer")
    if not isinstance(trainer, dict) or trainer.get("strategy") != SHARDED:
        return
    instead = "leave it out, or use trainer=ddp"
    if config.get("ema_decay") is not None:
        yield f"ema_decay needs whole weights, and trainer=fsdp2 shards them; {instead}"
    if config.get("compile"):
        yield f"compile=true needs whole weights, and trainer=fsdp2 shards them; {instead}"
    precision = trainer.get("precision")
    if precision is not None and str(precision) not in SHARDED_PRECISIONS:
        yield (
            f"trainer.precision must be one of {', '.join(SHARDED_PRECISIONS)} with trainer=fsdp2, "
            f"got {shown(precision)}"
        )


def averaging_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what processes that step on their own need, and what they can't have."""
    trainer = config.get("trainer")
    if not isinstance(trainer, dict):
        return
    local, node = trainer.get("strategy") == LOCAL, trainer.get(AVERAGING)
    if local and not (isinstance(node, dict) and "_target_" in node):
        yield (
            f"trainer.strategy=local needs trainer.averaging, got {shown(node)}; "
            "use trainer=local_sgd or trainer=diloco"
        )
    if not local and node is not None:
        yield (
            f"trainer.averaging needs trainer.strategy=local, got "
            f"{shown(trainer.get('strategy'))}; use trainer=local_sgd or trainer=diloco, or set "
            "trainer.averaging=null"
        )
    if trainer.get("strategy") not in LOCAL_STRATEGIES:
        return
    if config.get("ema_decay") is not None:
        yield (
            "ema_decay needs the same weights on all processes in every step, and those of "
            f"trainer.strategy={trainer['strategy']} differ; leave it out, or use trainer=ddp"
        )
    if str(trainer.get("precision")) in ("16", "16-mixed"):
        yield (
            "trainer.precision must not scale losses where each process would by its own factor, "
            f"got {shown(trainer['precision'])}; use bf16-mixed, or trainer=ddp"
        )


NO_TRANSFER = "NoTransfer"


def linear_problems(config: Mapping[str, Any], command: str) -> Iterator[str]:
    """Yield what a model that is fitted at once can't have: training, or knowledge of others."""
    if config.get("model") != "linear":
        return
    if command not in ("fit", "study"):
        yield f"model=linear isn't trained, so pollinate {command} has nothing to say of it"
    transfer = config.get("transfer")
    target = transfer.get("_target_") if isinstance(transfer, dict) else None
    if isinstance(target, str) and target.rpartition(".")[2] != NO_TRANSFER:
        yield f"model=linear takes nothing from other models, got transfer {target}; leave it out"


def lr_scale_problems(optimizer: Any) -> Iterator[str]:
    """Yield what is wrong with ``optimizer.lr_scale``: {part: factor > 0}.

    ``optimizer.lr_scale.encoders.text=0.1`` on the command line makes nested mappings; they are
    flattened here to the form of the files, ``{encoders.text: 0.1}``.
    """
    scale = optimizer.get("lr_scale", {}) if isinstance(optimizer, dict) else {}
    if not isinstance(scale, dict):
        yield f"optimizer.lr_scale must be {{part: factor}}, got {shown(scale)}"
        return
    optimizer["lr_scale"] = flat = dict(dotted_items(scale))
    for part, factor in flat.items():
        if not is_number(factor) or not factor > 0:
            yield f"optimizer.lr_scale.{part} must be a factor > 0, got {shown(factor)}"


NAMED = ("sources", "methods")  # options that are {name of the user's choice: ...}
INNER = "method"  # that of transfer=annealed


def transfer_problems(transfer: Any, path: str = "transfer") -> Iterator[str]:
    """Yield names that no part of a network can have, of methods inside methods, too."""
    if not isinstance(transfer, dict):
        return
    for key in NAMED:
        nodes = transfer.get(key)
        for name, node in nodes.items() if isinstance(nodes, dict) else ():
            yield from _name_problems(f"{path}.{key}", str(name))
            yield from transfer_problems(node, f"{path}.{key}.{name}")
    yield from transfer_problems(transfer.get(INNER), f"{path}.{INNER}")


def _name_problems(path: str, name: str) -> Iterator[str]:
    if not name or "." in name:
        yield f"{path}: a name must not be empty and has no dot, got {shown(name)}"
    elif name in RESERVED_NAMES or name.startswith("__"):
        yield f"{path}: {name!r} is reserved by PyTorch's containers; choose another name"
