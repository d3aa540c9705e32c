"""Where Hydra finds config files: single files by path, the user's folders, the shipped folder.

Hydra reads each file through these sources, so a broken file is reported with its line and a
relative path in a file is relative to that file.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin

from pipeline.configuration.yaml_files import load_yaml


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
        """Return the prefix in Hydra's search path."""
        return "yaml-folder"

    def file(self, config_path: str) -> Path:
        """Return ``folder/data/shop.yaml`` for ``data/shop``."""
        return Path(self.path, f"{config_path.removesuffix('.yaml')}.yaml")

    def is_group(self, config_path: str) -> bool:
        """Return whether the folder has such a group."""
        return Path(self.path, config_path).is_dir()

    def list(self, config_path: str, results_filter: ObjectType | None) -> builtins.list[str]:
        """Return the groups or options below ``config_path``."""
        found: builtins.list[str] = []
        for file in Path(self.path, config_path).iterdir():
            self._list_add_result(found, f"{config_path}/{file.name}", file.name, results_filter)
        return sorted(set(found))


class YamlFile(_YamlSource):
    """``yaml-file://data/shop=/home/ann/shop.yaml``: one file that stands for one option."""

    @staticmethod
    def scheme() -> str:
        """Return the prefix in Hydra's search path."""
        return "yaml-file"

    def file(self, config_path: str) -> Path:
        """Return the file when it is asked for by its option's name."""
        option, _, file = self.path.partition("=")
        wanted = config_path.removesuffix(".yaml") == option
        return Path(file) if wanted else Path(self.path, "absent")

    def is_group(self, config_path: str) -> bool:
        """Return whether the option is in this group."""
        return self.path.partition("=")[0].startswith(f"{config_path}/")

    def list(self, config_path: str, results_filter: ObjectType | None) -> builtins.list[str]:
        """Return the option, when its group is asked for."""
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
def searching(files: dict[str, Path], folders: Sequence[Path]) -> Iterator[None]:
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
