"""Composes a command's configuration from files and overrides, and checks it.

Plain containers come out; torch is not imported."""

from __future__ import annotations

import builtins
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from pipeline.configuration.data_rules import (
    MODALITIES,
    chosen_problems,
    data_problems,
    keep_chosen_tasks,
    name_strata,
)
from pipeline.configuration.groups import (
    NAMED_IN_DATA,
    SHIPPED,
    find_option,
    groups,
    options,
    search_folders,
)
from pipeline.configuration.interpolations import check_expansion, refuse_resolvers
from pipeline.configuration.method_rules import (
    AVERAGING,
    averaging_problems,
    component_problems,
    linear_problems,
    lr_scale_problems,
    precision_problems,
    sharding_problems,
    tracking_problems,
    trainer_options,
    trainer_problems,
    transfer_problems,
)
from pipeline.configuration.schema import SCHEMAS, key_paths, missing_values, schema_problems
from pipeline.configuration.space_rules import search_problems
from pipeline.configuration.study_rules import is_values, study_problems
from pollinate.errors import UsageError
from pollinate.foreign import parse_yaml, read_text, texts_in
from pollinate.overrides import option_text
from pollinate.suggest import hint, raise_all

# an interpolation or a URL is not a path relative to the file
NOT_RELATIVE = re.compile(r"^\$\{|^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


# how a malformed defaults list shows in Hydra
MALFORMED = (ValueError, TypeError, AttributeError, AssertionError, KeyError, RecursionError)
PATHS = ("path", "files", "folder", "cache")  # keys whose values are paths
HYDRA = "hydra"  # key of Hydra's own settings, of which a search path imports packages
# groups of these, which only hydra.main reads: to load them takes a fifth of the time
UNREAD = ("output", "launcher", "sweeper", "help", "hydra_help", "hydra_logging", "job_logging")


def load_yaml(file: Path) -> DictConfig:
    """Return the file's mapping, with the values of its ``PATHS`` keys made absolute."""
    ours = SHIPPED in file.parents and file.is_file()
    plain = _shipped(file, file.stat().st_mtime_ns) if ours else _plain(file)
    return DictConfig(absolute_paths(plain, file.parent))


@cache
def _shipped(file: Path, written: int) -> dict[str, Any]:
    """Return what a file of ours holds: a study, or a program, composes from the same ones often.

    Args:
        file: one that nobody writes twice within a tick of the file system's clock.
        written: when it was, in nanoseconds.
    """
    return _plain(file)


def _plain(file: Path) -> dict[str, Any]:
    try:
        found = parse_yaml(read_text(file))
        plain = {} if found is None else found
        if not isinstance(plain, dict):
            kind = "a list" if isinstance(plain, list) else "a single value"
            raise UsageError(f"{file} must be a mapping of keys to values, got {kind}")
        OmegaConf.create(plain)  # says what is wrong with an interpolation
    except MarkedYAMLError as error:
        raise UsageError(_broken(file, error)) from error
    except (YAMLError, OSError, ValueError, OmegaConfBaseException) as error:
        raise UsageError(f"{file} can't be read as YAML: {error}") from error
    refuse_resolvers(plain, str(file))
    if HYDRA in plain:
        raise UsageError(f"{file} sets {HYDRA}, which is for the command line; leave it out")
    for key, text in texts_in(plain.get("defaults"), "defaults"):
        if ".." in text.split("/"):
            raise UsageError(f"{file}: {key} must name an option of a group, got {text:.80}")
    return plain


def _broken(file: Path, error: MarkedYAMLError) -> str:
    mark = error.problem_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{file}{where}: {error.problem or error.context}"


def absolute_paths(node: Any, folder: Path) -> Any:
    """Resolve paths against the file's folder: one, a list, or {split: either}."""
    if isinstance(node, list):
        return [absolute_paths(item, folder) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _absolute(value, folder) if key in PATHS else absolute_paths(value, folder)
        for key, value in node.items()
    }


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _absolute(item, folder) for key, item in value.items()}
    if not isinstance(value, str) or value == "???" or NOT_RELATIVE.match(value):
        return value
    return str((folder / Path(value).expanduser()).resolve())


class _YamlSource(ConfigSource):
    """Loads what ``file`` finds for a config path such as ``data/shop``."""

    def file(self, config_path: str) -> Path:
        raise NotImplementedError

    def load_config(self, config_path: str) -> ConfigResult:
        file = self.file(config_path)
        config = load_yaml(file)
        with file.open(encoding="utf-8") as stream:
            header = self._get_header_dict(stream.read(512))
        return ConfigResult(self.provider, self.full_path(), config, header)

    def is_config(self, config_path: str) -> bool:
        return self.file(config_path).is_file()

    def available(self) -> bool:
        return True


class YamlFolder(_YamlSource):
    """``yaml-folder:///home/ann/shop``: all files below a folder."""

    @staticmethod
    def scheme() -> str:
        return "yaml-folder"

    def file(self, config_path: str) -> Path:
        """Return ``folder/data/shop.yaml`` for ``data/shop``."""
        return Path(self.path, f"{config_path.removesuffix('.yaml')}.yaml")

    def is_group(self, config_path: str) -> bool:
        return Path(self.path, config_path).is_dir()

    def list(self, config_path: str, results_filter: ObjectType | None) -> builtins.list[str]:
        found: builtins.list[str] = []
        for file in Path(self.path, config_path).iterdir():
            self._list_add_result(found, f"{config_path}/{file.name}", file.name, results_filter)
        return sorted(set(found))


class YamlFile(_YamlSource):
    """``yaml-file://data/shop=/home/ann/shop.yaml``: one file that stands for one option."""

    @staticmethod
    def scheme() -> str:
        return "yaml-file"

    def file(self, config_path: str) -> Path:
        option, _, file = self.path.partition("=")
        wanted = config_path.removesuffix(".yaml") == option
        return Path(file) if wanted else Path(self.path, "absent")

    def is_group(self, config_path: str) -> bool:
        return self.path.partition("=")[0].startswith(f"{config_path}/")

    def list(self, config_path: str, results_filter: ObjectType | None) -> builtins.list[str]:
        group, _, name = self.path.partition("=")[0].rpartition("/")
        wanted = group == config_path and results_filter != ObjectType.GROUP
        return [name] if wanted else []


class _SearchPath(SearchPathPlugin):
    """Puts the current composition's places before Hydra's own."""

    places: Sequence[str] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for place in self.places:
            search_path.prepend("pollinate", place, anchor="main")


@contextmanager
def search_in(files: dict[str, Path], folders: Sequence[Path]) -> Iterator[None]:
    """Search, inside the block, first ``files`` {option: file} and then ``folders`` in order."""
    for plugin in (YamlFolder, YamlFile, _SearchPath):
        Plugins.instance().register(plugin)
    _SearchPath.places = [
        *(f"{YamlFile.scheme()}://{option}={file}" for option, file in files.items()),
        *(f"{YamlFolder.scheme()}://{folder}" for folder in folders),
    ]
    try:
        yield
    finally:
        _SearchPath.places = ()


ALLOW_TARGETS = "allow_targets"
STRUCTURE = re.compile(r"[{}\[\]\"',]|\$\{")  # a value that Hydra's grammar must read itself


@dataclass
class CommandLine:
    """The command line, sorted."""

    choices: dict[str, str | None] = field(default_factory=dict)  # {group: option}, the last wins
    deletions: list[str] = field(default_factory=list)  # ~key
    values: list[tuple[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)  # data/shop -> /home/ann/shop.yaml
    allow_targets: list[str] = field(default_factory=list)

    def for_hydra(self, defaults: Mapping[str, str | None]) -> list[str]:
        """Return the part that Hydra composes.

        ``defaults`` is the command's defaults list, {group: option}: Hydra wants ``+`` for other
        groups, and ``~`` to leave out an option that is in it.
        """
        chosen = [
            f"{'' if group in defaults else '+'}{group}={option}"
            for group, option in self.choices.items()
            if option is not None
        ]
        left_out = [
            f"~{group}"
            for group, option in self.choices.items()
            if option is None and defaults.get(group) is not None
        ]
        unread = [f"~{HYDRA}/{group}" for group in (*UNREAD, "env")]
        return [*chosen, *left_out, *self.deletions, *unread]


def sort_overrides(
    overrides: Sequence[str],
    folders: Sequence[Path],
    defaults: Collection[str],
    keys: Sequence[str],
) -> CommandLine:
    """Return the sorted command line.

    Args:
        overrides: ``group=option``, ``key=value`` or ``~key``.
        folders: where groups are looked for.
        defaults: the groups in the command's defaults list.
        keys: the plain keys of the command's own file; they win over a group of that name.

    Raises:
        UsageError: unreadable override, unknown group or option, or a file that isn't there.
    """
    line = CommandLine()
    for text in overrides:
        override = parse_override(text)
        key = override.key_or_group
        value: Any = override.value()
        if override.is_delete():
            line.deletions.append(text)
        elif key == ALLOW_TARGETS:
            line.allow_targets = _packages(value)
        elif key not in keys and _is_group(key, folders, defaults) and _names_option(value):
            line.choices[key] = _choice(line, key, value, folders)
        else:
            line.values.append((key, value))
    return line


def parse_override(text: str) -> Override:
    """Return an override as Hydra reads it; file names that aren't in its grammar mean themselves.

    Raises:
        UsageError: it can't be read, or is several.
    """
    try:
        override = OverridesParser.create().parse_override(text)
    except RecursionError as error:
        raise UsageError(f"can't read {text[:40]!r} ...: it is nested too deep") from error
    except HydraException as error:
        key, equals, value = text.partition("=")
        # file names with ~, # or accents are not in Hydra's grammar, but mean what they say
        if not equals or STRUCTURE.search(value) or '"' in text:
            raise UsageError(_unreadable(text, error)) from error
        try:
            override = OverridesParser.create().parse_override(f'{key}="{value}"')
        except HydraException:
            raise UsageError(_unreadable(text, error)) from error
    if override.is_sweep_override():
        key, _, value = text.partition("=")
        raise UsageError(
            f"{key} takes one value, got {value}; write a list as '{key}=[a,b]', or quote a value "
            f"with commas or parentheses: {option_text(key, value)}"
        )
    return override


def _unreadable(text: str, error: HydraException) -> str:
    if "=" not in text:
        return f"expected key=value or group=option, got {text!r}"
    key, _, value = text.partition("=")
    reason = str(error).splitlines()[0]
    return f"can't read {text!r}: {reason}; if it is a text, write {option_text(key, value)}"


def _packages(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    good = isinstance(names, list) and all(
        isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
        for name in names
    )
    if not good:
        raise UsageError(f"allow_targets must be a list of packages such as [my_pkg], got {value}")
    return list(names)


def _is_group(key: str, folders: Sequence[Path], defaults: Collection[str]) -> bool:
    if key in NAMED_IN_DATA:
        raise UsageError(f"{key} is not a top-level key; set {NAMED_IN_DATA[key]}=OPTION")
    if key in defaults or options(key, folders):
        return True
    if "/" in key:
        known = groups(folders)
        raise UsageError(f"{key} is not a group of configs{hint(key, known, 'groups')}")
    return False


def _names_option(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _choice(
    line: CommandLine, group: str, value: str | None, folders: Sequence[Path]
) -> str | None:
    """Return the option's name, null for none; a file by its path becomes an option."""
    if value is None:
        return None
    if value.endswith((".yaml", ".yml")):
        file = Path(value).expanduser().resolve()
        if not file.is_file():
            raise UsageError(f"{group}={value}: there is no config file {file}")
        # a word in Hydra's grammar, whatever the file is called: nan.yaml, 1.yaml
        name = f"file_{re.sub('[^A-Za-z0-9_]', '_', file.stem)}"
        line.files[f"{group}/{name}"] = file
        return name
    if find_option(group, value, folders) is None:
        known = options(group, folders)
        raise UsageError(f"{group} has no option {value!r}{hint(value, known, 'options')}")
    return value


OWN_DATASET_KEYS = (
    "inputs",
    "split",
    "streaming",
)  # of the data set itself; all others go to its source
INNER_BALANCERS = ("balancer.losses", "balancer.method")
OWN_TASK_KEYS = ("dataset", "target", "unseen", "unlabelled", "labels_of")
BELOW_NAME = re.compile(
    r"(?P<chooser>(?P<node>data\.(tasks|datasets)\.[^.]+)\.(type|source))\.(?P<option>.+)"
)


# options beside a name: encoder.text.tune.rank of encoder.text.tune=lora
INSIDE_NAME = re.compile(
    r"(?P<node>balancer\.(losses|method)|encoder\.[^.]+\.tune|transfer\.(methods\.[^.]+|method)"
    r"|method\.method)\..+"
)


def nest_name(key: str, config: DictConfig) -> None:
    """Turn ``tune: lora`` into ``tune: {name: lora}`` before an option of it, ``key``, is set."""
    match = INSIDE_NAME.match(key)
    chosen = OmegaConf.select(config, match["node"], default=None) if match else None
    if match and isinstance(chosen, str):
        OmegaConf.update(config, match["node"], {"name": chosen}, merge=False)


def unresolved_key(key: str, config: DictConfig) -> str:
    """Return where an option's key stands before names are resolved.

    ``data.tasks.digit.type.label_smoothing`` is how the printed configuration shows the option;
    in the files it stands beside ``type: classification``.
    """
    match = BELOW_NAME.match(key)
    chosen = OmegaConf.select(config, match["chooser"], default=None) if match else None
    return f"{match['node']}.{match['option']}" if match and isinstance(chosen, str) else key


def resolve_names(config: DictConfig, folders: Sequence[Path]) -> None:
    """Resolve all names in place; a node of another shape is left for the schema to report."""
    _resolve_all(config, "data.datasets", "source", OWN_DATASET_KEYS, "source", folders)
    _resolve_all(config, "data.tasks", "type", OWN_TASK_KEYS, "task", folders)
    _resolve_augmentation(config, folders)
    for key in INNER_BALANCERS:
        _resolve_inner(config, key, "balancer", folders)
    for modality in _keys(config, "encoder"):
        _resolve_inner(config, f"encoder.{modality}.tune", "tune", folders)
    _resolve_transfers(config, "transfer", folders)
    _resolve_inner(config, "method.method", "method", folders)
    _resolve_scores(config, folders)
    _resolve_optimizer(config)


def _resolve_transfers(config: DictConfig, key: str, folders: Sequence[Path]) -> None:
    inner = [f"{key}.methods.{name}" for name in _keys(config, f"{key}.methods")]
    inner += [f"{key}.method"] if "method" in _keys(config, key) else []
    for path in inner:
        _resolve_inner(config, path, "transfer", folders)
        _resolve_transfers(config, path, folders)


def _keys(config: DictConfig, path: str) -> list[str]:
    node = OmegaConf.select(config, path, default=None)
    return [str(key) for key in node] if isinstance(node, DictConfig) else []


def _resolve_inner(config: DictConfig, key: str, group: str, folders: Sequence[Path]) -> None:
    """Turn ``losses: uncertainty``, or ``losses: {name: uncertainty, ...}``, into that method."""
    node = OmegaConf.select(config, key, default=None)
    own = node.copy() if isinstance(node, DictConfig) and "name" in node else OmegaConf.create()
    name = own.pop("name", node)
    if isinstance(name, str):
        chosen = load_yaml(_file(key, name, group, folders))
        OmegaConf.update(config, key, OmegaConf.merge(chosen, own), merge=False, force_add=True)


def _resolve_scores(config: DictConfig, folders: Sequence[Path]) -> None:
    """Turn ``scores: {h_score: {shrinkage: 0.1}}``, or a list of names, into the methods."""
    key = "scores"
    if key not in config:
        return
    node = OmegaConf.select(config, key)
    given = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        names = dict.fromkeys(names)
    if not names or not isinstance(names, dict):
        known = ", ".join(options("score", folders))
        raise UsageError(f"{key} must name some of {known}, such as [log_me,leep], got {given}")
    chosen = {
        name: OmegaConf.merge(load_yaml(_file(key, str(name), "score", folders)), own or {})
        for name, own in names.items()
    }
    OmegaConf.update(config, key, chosen, merge=False)


def _resolve_augmentation(config: DictConfig, folders: Sequence[Path]) -> None:
    """Turn ``image: {augment: flip}`` into the transform of that name."""
    key = "data.image.augment"
    name = OmegaConf.select(config, key, default=None)
    if isinstance(name, str):
        chosen = load_yaml(_file(key, name, "augment", folders))
        OmegaConf.update(config, key, chosen, force_add=True)


def _resolve_all(
    config: DictConfig,
    path: str,
    chooser: str,
    own_keys: tuple[str, ...],
    group: str,
    folders: Sequence[Path],
) -> None:
    nodes = OmegaConf.select(config, path)
    loaded = cache(load_yaml)  # data sets often share a source
    for name, node in nodes.items() if isinstance(nodes, DictConfig) else ():
        if not isinstance(node, DictConfig) or OmegaConf.is_missing(node, chooser):
            continue
        if isinstance(node.get(chooser), str):
            key = f"{path}.{name!s}.{chooser}"
            option = loaded(_file(key, node[chooser], group, folders))
            _expand(node, chooser, own_keys, option)


def _file(key: str, name: str, group: str, folders: Sequence[Path]) -> Path:
    file = find_option(group, name, folders)
    if file is None:
        known = options(group, folders)
        raise UsageError(f"{key} has no option {name!r}{hint(name, known, 'options')}")
    return file


def _expand(node: DictConfig, chooser: str, own_keys: tuple[str, ...], option: DictConfig) -> None:
    """Move the node's options under ``chooser``, over the values of the chosen YAML file."""
    own = OmegaConf.create({k: v for k, v in node.items_ex(resolve=False) if k != chooser})
    merged = OmegaConf.merge(option, own)
    assert isinstance(merged, DictConfig)
    for key in list(node):
        del node[key]
    items = dict(merged.items_ex(resolve=False))
    node[chooser] = {key: value for key, value in items.items() if key not in own_keys}
    for key in own_keys:
        if key in items:
            node[key] = items[key]
    files = OmegaConf.select(node, "split.files", default=None)
    if files is not None and OmegaConf.is_missing(node[chooser], "path"):
        node[chooser]["path"] = files  # the source reads what the split says


def _resolve_optimizer(config: DictConfig) -> None:
    """Turn ``optimizer: {name: RMSprop}`` into ``_target_: torch.optim.RMSprop``."""
    node = OmegaConf.select(config, "optimizer")
    if not isinstance(node, DictConfig) or "_target_" in node or "name" not in node:
        return
    if not OmegaConf.is_missing(node, "name"):
        node["_target_"] = f"torch.optim.{node.pop('name')}"


# commands that describe a training
TRAINING_COMMANDS = ("fit", "plan", "rank_sources", "study", "search")
INSPECT = "inspect"  # describes data


def check_config(command: str, config: dict[str, Any], allow: Sequence[str]) -> None:
    """Fill in defaults and report all problems at once.

    Args:
        command: a key of ``SCHEMAS``.
        config: plain containers, changed in place.
        allow: packages that ``_target_`` may name besides our own.

    Raises:
        UsageError: unknown keys, wrong types, missing values, values out of range.
    """
    known = list(key_paths(config))
    if command in TRAINING_COMMANDS:
        known += [f"trainer.{name}" for name in (*trainer_options(), AVERAGING)]
    problems = [
        *missing_values(config),
        *tracking_problems(config.get("tracking")),
        *schema_problems(SCHEMAS[command], config, known=known),
        *component_problems(config, allow),
    ]
    if command in TRAINING_COMMANDS:
        problems += _fit_problems(config, command)
    if command == "study":
        problems += study_problems(config)
    if command == "search":
        problems += search_problems(config)
    if command == INSPECT:
        problems += data_problems(config.get("data"), {name: {"any": True} for name in MODALITIES})
    raise_all(problems)


def _fit_problems(config: dict[str, Any], command: str) -> Iterator[str]:
    yield from linear_problems(config, command)
    yield from trainer_problems(config.get("trainer"))
    yield from precision_problems(config)
    yield from sharding_problems(config)
    yield from averaging_problems(config)
    yield from lr_scale_problems(config.get("optimizer"))
    yield from data_problems(config.get("data"), config.get("encoder"))
    yield from transfer_problems(config.get("transfer"))
    yield from chosen_problems(config)


@dataclass(frozen=True)
class ComposedConfig:
    """A checked configuration and the packages that it needs besides our own."""

    config: dict[str, Any]
    requires: dict[str, str]  # {import name: extra of pollinate}


def compose(
    command: str, overrides: Sequence[str] = (), config_dirs: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return the checked configuration of a command, with all interpolations resolved.

    Args:
        command: ``fit``, ``evaluate``, ...: a YAML file of configs/ with a schema.
        overrides: ``group=option``, ``group=file.yaml``, ``key=value`` or ``~key``.
        config_dirs: folders searched before the shipped configs.

    Raises:
        UsageError: with every problem found: key, value found, what is allowed, nearest name.
    """
    return compose_with_requirements(command, overrides, config_dirs).config


def compose_with_requirements(
    command: str, overrides: Sequence[str] = (), config_dirs: Sequence[Path] = ()
) -> ComposedConfig:
    """Return what ``compose`` does, and the packages named by ``_requires_`` keys."""
    if command not in SCHEMAS:
        raise UsageError(f"{command!r} has no schema{hint(command, SCHEMAS, 'commands')}")
    folders = search_folders(config_dirs)
    defaults, keys = _primary(command, folders)
    line = sort_overrides(overrides, folders, defaults, keys)
    config = _hydra(command, line.for_hydra(defaults), line.files, folders)
    _set_values(config, line, folders)
    resolve_names(config, folders)
    plain = _resolved(config)
    requires = _pop_requirements(plain)
    check_config(command, plain, line.allow_targets)
    if command in (*TRAINING_COMMANDS, INSPECT):
        plain["data"] = name_strata(plain["data"])
    if command in TRAINING_COMMANDS:
        plain = keep_chosen_tasks(plain)
    return ComposedConfig(plain, requires)


def _primary(command: str, folders: Sequence[Path]) -> tuple[dict[str, str | None], list[str]]:
    """Return the groups of a command's file, and its keys, with those of a file it builds on."""
    primary = load_yaml(next(f for d in folders if (f := d / f"{command}.yaml").is_file()))
    groups, keys = _groups(primary), [str(key) for key in primary]
    for entry in primary.get("defaults") or []:
        if isinstance(entry, str) and entry != "_self_":
            below, others = _primary(entry, folders)
            groups, keys = {**below, **groups}, [*others, *keys]
    return groups, keys


def _groups(primary: DictConfig) -> dict[str, str | None]:
    """Return {group: option} of a defaults list such as ``[{data: quickstart}, _self_]``."""
    entries = primary.get("defaults") or []
    return {
        str(group): option
        for entry in entries
        if isinstance(entry, DictConfig)
        for group, option in entry.items()
    }


def _hydra(
    command: str, overrides: list[str], files: dict[str, Path], folders: Sequence[Path]
) -> DictConfig:
    try:
        with (
            search_in(files, folders),
            initialize_config_dir(str(SHIPPED), version_base="1.3"),
        ):
            config = hydra_compose(command, overrides)
    except MissingConfigException as error:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        known = options(group, folders)
        raise UsageError(
            f"a defaults list names {group}/{name}, which is no config"
            f"{hint(name, known, 'options')}"
        ) from error
    except HydraException as error:
        reason, _, _ = str(error.__cause__ or error).partition("Config search path:")
        raise UsageError(f"the configs don't compose: {reason.strip()}") from error
    except MALFORMED as error:
        raise UsageError(f"the configs don't compose: {_first_line(error)}") from error
    OmegaConf.set_struct(config, False)
    return config


# what is started, and where results go: key -> what a file may say
ADDRESS = "tracking.uri"
ENGINE, LOCAL = "engine", "local"
COMMAND_LINE_ONLY: dict[str, tuple[str, ...]] = {
    "launcher": ("python",),
    "study.search.storage": (),
    ADDRESS: (),
}


def _refuse_set_by_file(config: DictConfig, line: CommandLine, folders: Sequence[Path]) -> None:
    """Check that no file, which may be a stranger's, says what is started and where results go.

    An address may come from an option of ``tracking``.
    """
    files = [file for option, file in line.files.items() if option.startswith("tracking/")]
    files += [file for folder in folders for file in (folder / "tracking").glob("*.yaml")]
    for key, expected in COMMAND_LINE_ONLY.items():
        found = OmegaConf.select(config, key, default=None)
        if found is None or found in expected:
            continue
        if key != ADDRESS or all(load_yaml(file).get("uri") != found for file in files):
            raise UsageError(
                f"{key} is only for the command line, a file sets it to {found!s:.80}: a file from "
                f"somebody else must not choose what is started or where results go; if it is what "
                f"you want, say so: '{key}={found!s:.80}'"
            )
    _refuse_engine_of_file(config, line, folders)


def _refuse_engine_of_file(config: DictConfig, line: CommandLine, folders: Sequence[Path]) -> None:
    """Check that where trials run is an option of ``engine`` as it is, which the user chose."""
    found = config.get(ENGINE)
    if not isinstance(found, DictConfig):
        return  # of a command without, or for the schema to report
    name = line.choices.get(ENGINE) or LOCAL
    file = line.files.get(f"{ENGINE}/{name}") or find_option(ENGINE, name, folders)
    expected: Any = {} if file is None else OmegaConf.to_container(load_yaml(file), resolve=False)
    given: Any = OmegaConf.to_container(found, resolve=False)
    for key in {**expected, **given}:
        if given.get(key) != expected.get(key):
            raise UsageError(
                f"{ENGINE}.{key} is only for the command line, a file sets it to "
                f"{given.get(key)!s:.80}: a file from somebody else must not choose where trials "
                f"run; write an option of your own, and choose it: {ENGINE}=mine.yaml"
            )


def _set_values(config: DictConfig, line: CommandLine, folders: Sequence[Path]) -> None:
    if config.get(ALLOW_TARGETS):
        raise UsageError(
            f"allow_targets is only for the command line, a file sets it to {config[ALLOW_TARGETS]}"
            ": a config from somebody else must not choose which code is called"
        )
    _refuse_set_by_file(config, line, folders)
    for key, value in [*line.values, (ALLOW_TARGETS, line.allow_targets)]:
        nest_name(key, config)
        try:
            place = unresolved_key(key, config)
            merge = not isinstance(value, list) and not replaces_values(config, key, value)
            OmegaConf.update(config, place, value, merge=merge, force_add=True)
        except (OmegaConfBaseException, ValueError, AssertionError) as error:
            raise UsageError(f"{key}={value} can't be set: {_first_line(error)}") from error


def _resolved(config: DictConfig) -> dict[str, Any]:
    check_expansion(config)
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        where = getattr(error, "full_key", None) or "configuration"
        raise UsageError(f"{where} can't be resolved: {_first_line(error)}") from error
    return cast("dict[str, Any]", plain)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _pop_requirements(node: Any) -> dict[str, str]:
    """Take all ``_requires_: {package: extra}`` out of the configuration."""
    found: dict[str, str] = {}
    if isinstance(node, dict) and isinstance(node.get("_requires_"), dict):
        found |= {str(package): str(e) for package, e in node.pop("_requires_").items()}
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        found |= _pop_requirements(child)
    return found


DRAWN = ("space.keys", "study.search.keys")  # what a search draws: {key: values}


def replaces_values(config: DictConfig, key: str, value: Any) -> bool:
    """Say whether a value is what a drawn key may be, which takes the place of what was there.

    A range isn't merged with other values; in a mapping of several keys those are taken away first.
    """
    if not isinstance(value, dict):
        return False
    if key in DRAWN:
        known = OmegaConf.select(config, key)
        for one in value if isinstance(known, DictConfig) else ():
            if one in known and is_values(value[one]):
                del known[one]
        return False
    return any(key.startswith(f"{one}.") for one in DRAWN) and is_values(value)
