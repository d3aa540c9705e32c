"""The keys of each command's configuration: names, types, defaults and ranges, and their check.

What a key means is in the command's YAML file; here is what a machine can check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from pipeline.configuration.signatures import describe_type, fits_type, parse_type, text_hint
from pollinate.suggest import did_you_mean, listing, shown


def key(rule: str, test: Callable[[Any], bool]) -> Any:
    """Return a required key; a value that isn't null must pass the test."""
    return field(metadata={"rule": rule, "test": test})


def default(value: Any, rule: str, test: Callable[[Any], bool]) -> Any:
    """Return a key that may be left out; a value that isn't null must pass the test."""
    return field(default=value, metadata={"rule": rule, "test": test})


def at_least(low: float) -> Any:
    return key(f">= {low}", lambda value: value >= low)


def one_of(*names: str) -> Any:
    """Return a required key whose value is one of these names."""
    return key(f"one of {', '.join(names)}", lambda value: value in names)


def user_path() -> Any:
    """Return a required path; a leading ~ is the home folder."""
    return field(metadata={"user_path": True})


@dataclass(kw_only=True)
class LoaderConfig:
    """How batches are prepared."""

    workers: int = at_least(0)
    pin_memory: bool


@dataclass(kw_only=True)
class CheckpointConfig:
    """When checkpoints are written, and which is the best."""

    every_n_steps: int = at_least(1)
    monitor: str
    mode: str | None = one_of("max", "min")


@dataclass(kw_only=True)
class EarlyStopping:
    """When to stop before the last epoch."""

    patience: int | None = at_least(1)
    min_delta: float = at_least(0)


@dataclass(kw_only=True)
class ImageConfig:
    """Images and their augmentation; the defaults are for a user's own data file."""

    # null: as the encoder was trained with, or [64, 64]
    size: list[int] | None = field(
        default=None,
        metadata={"rule": "[height, width] in pixels", "test": lambda size: len(size) == 2},
    )
    channels: int = 3
    value_range: list[float] | None = field(
        default=None,
        metadata={
            "rule": "[black, white], two numbers that differ",
            "test": lambda found: len(found) == 2 and found[0] != found[1],
        },
    )
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    flip: float = 0.0
    augment: dict[str, Any] | None = None


@dataclass(kw_only=True)
class TextConfig:
    """Tokens and their augmentation; the defaults are for a user's own data file."""

    vocab_size: int = 8000
    max_length: int = 160
    dropout: float = 0.0
    tokenizer: str | None = field(default=None, metadata={"user_path": True})
    wide: bool = False


@dataclass(kw_only=True)
class AudioConfig:
    """Spectrograms and their augmentation."""

    rate: int = default(16000, "> 0 samples a second", lambda value: value > 0)
    mels: int = default(64, "> 0", lambda value: value > 0)
    window: float = 25.0
    hop: float = 10.0
    max_seconds: float = 10.0
    time_masks: int = 0
    time_share: float = 0.1
    band_masks: int = 0
    band_width: int = 8


@dataclass(kw_only=True)
class GradientsConfig:
    """How often the tasks' gradients are looked at."""

    every_n_steps: int = at_least(0)


@dataclass(kw_only=True)
class DataConfig:
    """Data sets and tasks; their nodes are checked by ``pipeline.configuration.data_rules``."""

    datasets: dict[str, Any]
    tasks: dict[str, Any]
    seed: int = 0
    on_bad_row: str = default("error", "one of error, skip", lambda v: v in ("error", "skip"))
    strict: bool = False
    cache: str | None = field(default=None, metadata={"user_path": True})
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)


Component = Mapping[str, Any]  # a node with _target_, checked against the class that it names


KEPT = ("valid", "test")
PRESETS = ("auto", "fast", "good", "none")
TRANSFERS = ("init", "fork_merge")  # that a search can draw


@dataclass(kw_only=True)
class FitConfig:
    """python -m pipeline.fit."""

    name: str = key("a name without /", lambda value: value and "/" not in value)
    seed: int = at_least(0)
    run_dir: str | None = user_path()
    resume: str | None = user_path()
    tasks: list[str] | None = None
    pause_after: int | None = key("epochs >= 1", lambda value: value >= 1)
    label_fraction: float = default(1.0, "a share in (0, 1]", lambda value: 0 < value <= 1)
    baseline: str = default("linear", "one of linear, none", lambda v: v in ("linear", "none"))
    keep_outputs: list[str] | None = field(
        default=None,
        metadata={
            "rule": f"of {', '.join(KEPT)}, each once",
            "test": lambda v: len(set(v)) == len(v) and set(v) <= set(KEPT),
        },
    )
    preset: str = default("auto", "one of auto, fast, good, none", lambda v: v in PRESETS)
    calibration: str = default("none", "one of auto, none", lambda v: v in ("auto", "none"))
    coverage: float | None = default(None, "a share in (0, 1)", lambda value: 0 < value < 1)
    model: str | None = default(None, "linear", lambda value: value == "linear")
    dim: int = at_least(1)
    compile: bool
    ema_decay: float | None = key("in (0, 1)", lambda value: 0 < value < 1)
    loader: LoaderConfig
    checkpoint: CheckpointConfig
    early_stopping: EarlyStopping
    gradients: GradientsConfig
    data: DataConfig
    encoder: dict[str, Component]
    fusion: Component
    trunk: Component
    balancer: Component
    sampler: Component
    transfer: Component
    optimizer: Component
    schedule: Component
    tracking: Component
    trainer: dict[str, Any]
    allow_targets: list[str]


@dataclass(kw_only=True)
class PlanConfig(FitConfig):
    """python -m pipeline.plan."""

    memory: str | int | float | None
    output: str | None = user_path()


@dataclass(kw_only=True)
class RankSourcesConfig(FitConfig):
    """python -m pipeline.rank_sources."""

    sources: str | list[str]
    scores: dict[str, Component]
    rows: int = at_least(4)
    reference: str | None = user_path()
    gains: str | list[str] | None
    output: str | None = user_path()
    steps: int = at_least(0)
    every: int = at_least(1)
    batch_size: int = at_least(1)


@dataclass(kw_only=True)
class ComparisonConfig:
    """What a study compares; checked further by ``pipeline.configuration.study_rules``."""

    single_task: bool = True
    multi_task: bool = True
    pairs: str | list[list[str]] | None = None
    pair_weights: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={
            "rule": "one or more weights > 0",
            "test": lambda v: v and all(one > 0 for one in v),
        },
    )
    groups: list[list[str]] = field(default_factory=list)
    variants: dict[str, Any] = field(default_factory=dict)
    transfers: str | list[list[str]] | None = None
    label_fractions: list[float] = field(
        default_factory=list,
        metadata={
            "rule": "shares in (0, 1), such as [0.1, 0.3]",
            "test": lambda v: all(0 < one < 1 for one in v),
        },
    )
    budget: str = default("rows", "one of rows, steps", lambda v: v in ("rows", "steps"))
    search: dict[str, Any] | None = None
    predictors: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class StudyConfig(FitConfig):
    """python -m pipeline.study."""

    study: ComparisonConfig
    seeds: list[int] = field(
        metadata={
            "rule": "one or more different whole numbers >= 0",
            "test": lambda v: v and min(v) >= 0 and len(set(v)) == len(v),
        }
    )
    jobs: int = at_least(1)
    timeout: float | None = key("> 0 minutes", lambda value: value > 0)
    retries: int = at_least(0)
    engine: Component
    launcher: str = key("a command such as python", lambda value: value.strip())
    dry_run: bool


@dataclass(kw_only=True)
class SpaceConfig:
    """What a search tries; checked further by ``pipeline.configuration.space_rules``."""

    keys: dict[str, Any]
    present: bool = False
    presets: list[str] | None = field(
        default=None,
        metadata={"rule": "of fast, good", "test": lambda v: set(v) <= {"fast", "good"}},
    )
    transfers: list[str] | None = field(
        default=None,
        metadata={
            "rule": f"one or more of {', '.join(TRANSFERS)}",
            "test": lambda v: v and set(v) <= set(TRANSFERS),
        },
    )


@dataclass(kw_only=True)
class SearchConfig(FitConfig):
    """python -m pipeline.search."""

    space: SpaceConfig
    engine: Component
    time_limit: str | int | float
    trials: int | None = key(">= 0 trials", lambda value: value >= 0)
    jobs: int | None = key(">= 1 runs", lambda value: value >= 1)
    launcher: str = key("a command such as python", lambda value: value.strip())
    retries: int = at_least(0)
    distil: bool | None
    max_latency_ms: float | None = key("> 0 milliseconds", lambda value: value > 0)
    max_parameters: int | None = key(">= 1 weights", lambda value: value >= 1)
    rungs: int | None = key(">= 1 comparisons", lambda value: value >= 1)
    dry_run: bool


@dataclass(kw_only=True)
class EvaluateConfig:
    """python -m pipeline.evaluate."""

    checkpoint: str = user_path()
    split: str = one_of("train", "valid", "test")
    decoding: dict[str, Any]
    batch_size: int = at_least(1)
    run_dir: str | None = user_path()
    uri: str
    allow_targets: list[str]


@dataclass(kw_only=True)
class CalibrateConfig:
    """python -m pipeline.calibrate."""

    checkpoint: str = user_path()
    output: str | None = user_path()
    coverage: float | None = key("a share in (0, 1)", lambda value: 0 < value < 1)
    batch_size: int = at_least(1)
    overwrite: bool
    uri: str
    allow_targets: list[str]


@dataclass(kw_only=True)
class AbstainConfig:
    """When an answer is marked as doubtful."""

    risk: float | None = key("a share in (0, 1)", lambda value: 0 < value < 1)
    answered: float | None = key("a share in (0, 1]", lambda value: 0 < value <= 1)
    false_alarms: float | None = key("a share in (0, 1)", lambda value: 0 < value < 1)
    together: bool


@dataclass(kw_only=True)
class PredictConfig:
    """python -m pipeline.predict."""

    checkpoint: str = user_path()
    input: str = user_path()
    output: str = user_path()
    batch_size: int = at_least(1)
    tasks: list[str] | None
    columns: dict[str, Any]
    decoding: dict[str, Any]
    delimiter: str | None
    quote: str | None
    encoding: str | None
    empty: list[str] | None
    folder: str | None = user_path()
    uri: str
    on_bad_row: str = one_of("skip", "error")
    coverage: float | None = key("a share in (0, 1)", lambda value: 0 < value < 1)
    per_class: bool
    parts: bool
    dropout: int = at_least(0)
    abstain: AbstainConfig
    overwrite: bool
    allow_targets: list[str]


@dataclass(kw_only=True)
class ExplainConfig:
    """python -m pipeline.explain."""

    checkpoint: str = user_path()
    input: str = user_path()
    output: str | None = user_path()
    other: str | None = user_path()
    columns: dict[str, Any]
    tasks: list[str] | None
    answers: dict[str, Any]
    rows: int = at_least(1)
    steps: int = at_least(1)
    examples: int = at_least(0)
    checks: int = at_least(0)
    seed: int
    delimiter: str | None
    quote: str | None
    encoding: str | None
    empty: list[str] | None
    folder: str | None = user_path()
    batch_size: int = at_least(1)
    overwrite: bool
    uri: str
    allow_targets: list[str]


@dataclass(kw_only=True)
class ExportConfig:
    """python -m pipeline.export."""

    checkpoint: str = user_path()
    output: str = user_path()
    task: str | None
    modality: str | None
    merge: bool
    overwrite: bool
    uri: str
    allow_targets: list[str]


@dataclass(kw_only=True)
class MergeConfig:
    """python -m pipeline.merge."""

    models: list[str] | dict[str, str] = field(
        metadata={"rule": "one or more, in a list or as {name: model}", "test": bool}
    )
    output: str = user_path()
    base: str | None = user_path()
    name: str = key("a name without /", lambda value: value and "/" not in value)
    method: Component
    batch_norm: str = one_of("recompute", "keep")
    batch_norm_steps: int = at_least(1)
    evaluate: bool
    batch_size: int = at_least(1)
    overwrite: bool
    uri: str
    tracking: Component
    allow_targets: list[str]


@dataclass(kw_only=True)
class InspectConfig:
    """python -m pipeline.inspect."""

    name: str = key("a name without /", lambda value: value and "/" not in value)
    run_dir: str | None = user_path()
    baseline: str = default("linear", "one of linear, none", lambda v: v in ("linear", "none"))
    tokenizer: str | None
    samples: int = at_least(0)
    data: DataConfig
    tracking: Component
    allow_targets: list[str]


@dataclass(kw_only=True)
class UiConfig:
    """python -m pipeline.ui."""

    uri: str
    port: int = key("1 to 65535", lambda value: 1 <= value <= 65535)
    allow_targets: list[str]


@dataclass(kw_only=True)
class SyncConfig:
    """python -m pipeline.sync."""

    run_dir: str | None = user_path()
    runs: str | None = user_path()
    uri: str | None
    allow_targets: list[str]


SCHEMAS: dict[str, type[Any]] = {
    "fit": FitConfig,
    "plan": PlanConfig,
    "rank_sources": RankSourcesConfig,
    "study": StudyConfig,
    "search": SearchConfig,
    "inspect": InspectConfig,
    "evaluate": EvaluateConfig,
    "calibrate": CalibrateConfig,
    "predict": PredictConfig,
    "explain": ExplainConfig,
    "export": ExportConfig,
    "merge": MergeConfig,
    "ui": UiConfig,
    "sync": SyncConfig,
}
NODES: dict[str, type[Any]] = {
    node.__name__: node
    for node in (
        LoaderConfig,
        CheckpointConfig,
        EarlyStopping,
        AbstainConfig,
        GradientsConfig,
        ImageConfig,
        TextConfig,
        AudioConfig,
        DataConfig,
        ComparisonConfig,
        SpaceConfig,
    )
}


UNSET = "???"  # what a YAML file writes for a value that the user must give


def schema_problems(
    kind: type[Any], node: Any, path: str = "", known: Sequence[str] = ()
) -> Iterator[str]:
    """Yield what is wrong with ``node``; defaults are filled in as it goes."""
    if not isinstance(node, dict):
        yield f"{path[:-1]} must be a mapping of {listing(_names(kind))}, got {shown(node)}"
        return
    yield from _unknown(kind, node, path, known)
    for item in fields(kind):
        _fill(item, node)
        if item.name not in node:
            value = "OPTION" if item.type == "Component" else "VALUE"
            yield f"{path}{item.name} is missing; set {path}{item.name}={value}"
        elif node[item.name] != UNSET:
            yield from _value_problems(item, node, path)


def missing_values(node: Any, path: str = "") -> Iterator[str]:
    if node == UNSET:
        yield f"{path} is missing; set {path}=VALUE"
    children = node.items() if isinstance(node, dict) else ()
    for key, value in children:
        yield from missing_values(value, f"{path}.{key}" if path else str(key))


def key_paths(node: Any, path: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from key_paths(value, f"{path}{key}.")


def _names(kind: type[Any]) -> list[str]:
    return [item.name for item in fields(kind)]


def _unknown(
    kind: type[Any], node: dict[str, Any], path: str, known: Sequence[str]
) -> Iterator[str]:
    names = _names(kind)
    for key, value in node.items():
        if key not in names:
            others = [*(f"{path}{name}" for name in names), *known]
            right = [other for other in others if not f"{other}.".startswith(f"{path}{key}.")]
            guess = did_you_mean(f"{path}{key}", right) or ";"
            yield f"unknown key {path}{key}={shown(value)}{guess} allowed: {listing(names)}"


def _fill(item: Field[Any], node: dict[str, Any]) -> None:
    if item.name in node:
        return
    if item.default is not MISSING:
        node[item.name] = item.default
    elif item.default_factory is not MISSING:
        node[item.name] = _plain(item.default_factory())


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _value_problems(item: Field[Any], node: dict[str, Any], path: str) -> Iterator[str]:
    value, annotation = node[item.name], str(item.type)
    where = f"{path}{item.name}"
    if annotation in NODES:
        yield from schema_problems(NODES[annotation], value, f"{where}.")
    elif annotation == "Component":
        yield from _choice_problems(value, where)
    elif annotation == "dict[str, Component]" and isinstance(value, dict):
        for name, choice in value.items():
            yield from _choice_problems(choice, f"{where}.{name}")
    elif not fits_type(value, parse_type(annotation), {}):
        wanted = parse_type(annotation)
        advice = text_hint(value, wanted)
        yield f"{where} must be {describe_type(wanted)}, got {shown(value)}{advice}"
    elif value is not None and "test" in item.metadata and not item.metadata["test"](value):
        yield f"{where} must be {item.metadata['rule']}, got {shown(value)}"
    elif isinstance(value, str) and "user_path" in item.metadata and value.startswith("~"):
        node[item.name] = str(Path(value).expanduser())


def _choice_problems(value: Any, where: str) -> Iterator[str]:
    choose = f"choose {where.replace('.', '/')}=OPTION"
    if not isinstance(value, dict):
        yield f"{where} must be an option of its group, got {shown(value)}; {choose}"
    elif "_target_" not in value and UNSET not in value.values():
        yield f"{where} has no _target_, got {shown(value)}; {choose}"


def changed_values(
    saved: Mapping[str, Any], given: Mapping[str, Any], there: str, matters: Callable[[str], bool]
) -> list[str]:
    """Return ``key is NEW, THERE OLD`` for each dotted key that matters and differs."""
    old, new = ({k: repr(v) for k, v in dotted_items(one)} for one in (saved, given))
    return [
        f"{key} is {new.get(key, 'not set')}, {there} {old.get(key, 'not set')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and matters(key)
    ]


def dotted_items(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every leaf."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from dotted_items(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
