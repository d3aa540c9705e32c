"""Rules for what no class of ours describes: ``trainer.*`` and ``optimizer.lr_scale``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.configuration.annotations import is_number
from pipeline.configuration.component_rules import value_problems
from pipeline.configuration.schema_check import UNSET
from pipeline.configuration.signatures import Option, signature
from pipeline.configuration.suggest import hint, shown

TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
SHARDED, LOCAL, BRANCHES = "fsdp2", "local", "branches"  # strategies of ours
AVERAGING = "averaging"  # our option that goes with the second
APART = (LOCAL, BRANCHES)  # with these, processes step on their own
SHARDED_PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16-true", "bf16", "16-true")
LENGTHS = {  # options that say how long a run is, and what says that it has no such end
    "max_epochs": "-1, with trainer.max_steps=N, for any number of them",
    "max_steps": "leave it out for trainer.max_epochs alone; a run that goes on: name more",
}
# options of the Trainer that Pollinate sets itself, and the key to use instead
OWNED = {
    "logger": "tracking=OPTION",
    "callbacks": "checkpoint.*, early_stopping.*, ema_decay or transfer=OPTION",
    "default_root_dir": "run_dir=PATH",
    "enable_checkpointing": "checkpoint.every_n_steps=N",
    "use_distributed_sampler": "sampler=OPTION",
    "plugins": "trainer.strategy and trainer.precision",
}


def trainer_options() -> dict[str, Option]:
    """Return the Trainer's options that a config may set."""
    found = signature(TRAINER)
    options = found.options if found else {}
    return {name: option for name, option in options.items() if name not in OWNED}


def trainer_problems(trainer: Any) -> Iterator[str]:
    """Yield what is wrong with ``trainer.*``."""
    options = trainer_options()
    for name, value in trainer.items() if isinstance(trainer, dict) else ():
        if name == AVERAGING:
            continue  # a class of ours, checked as such
        if name in OWNED:
            yield f"trainer.{name}={shown(value)} is set by Pollinate; use {OWNED[name]} instead"
        elif name not in options:
            yield (f"unknown option trainer.{name}={shown(value)}{hint(name, options, 'allowed')}")
        elif value != UNSET:
            yield from value_problems(f"trainer.{name}", value, options[name])
            yield from _length_problems(name, value)


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
    if trainer.get("strategy") not in APART:
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


def lr_scale_problems(optimizer: Any) -> Iterator[str]:
    """Yield what is wrong with ``optimizer.lr_scale``: {part: factor > 0}.

    ``optimizer.lr_scale.encoders.text=0.1`` on the command line makes nested mappings; they are
    flattened here to the form of the files, ``{encoders.text: 0.1}``.
    """
    scale = optimizer.get("lr_scale", {}) if isinstance(optimizer, dict) else {}
    if not isinstance(scale, dict):
        yield f"optimizer.lr_scale must be {{part: factor}}, got {shown(scale)}"
        return
    optimizer["lr_scale"] = flat = dict(_flat(scale, ""))
    for part, factor in flat.items():
        if not is_number(factor) or not factor > 0:
            yield f"optimizer.lr_scale.{part} must be a factor > 0, got {shown(factor)}"


def _flat(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
