"""Flags, groups and their options, as folders of YAML files. Light: no YAML is parsed here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pollinate.errors import UsageError

# beside this package both in the repository and in site-packages; found by path, because a
# folder named configs in the current directory would win an import
SHIPPED = Path(__file__).resolve().parents[2] / "configs"
FLAGS = {
    "--help": "this page",
    "--print-config": "print the composed configuration, run nothing",
    "--config-dir": "DIR with configs of your own, searched before the shipped ones; repeatable",
    "--debug": "show the traceback of an error",
}
NAMED_IN_DATA = {
    "augment": "data.image.augment",
    "score": "scores",
    "source": "data.datasets.NAME.source",
    "task": "data.tasks.NAME.type",
    "tune": "encoder.MODALITY.tune",
}


def search_folders(config_dirs: Sequence[Path]) -> list[Path]:
    """Return the folders to search, the user's before the shipped one."""
    own = [folder.expanduser().resolve() for folder in config_dirs]
    for folder in own:
        if not folder.is_dir():
            raise UsageError(f"--config-dir must be a folder, got {folder}, which is not one")
    return [*own, SHIPPED]


def options(group: str, folders: Sequence[Path]) -> list[str]:
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def find_option(group: str, name: str, folders: Sequence[Path]) -> Path | None:
    """Return an option's file; a name that leads out of the group's folder is none."""
    if Path(name).name != name:
        return None
    files = (folder / group / f"{name}.yaml" for folder in folders)
    return next((file for file in files if file.is_file()), None)


def groups(folders: Sequence[Path]) -> list[str]:
    """Return the sorted names of all groups: ``balancer``, ``encoder/text``, ..."""
    return sorted(
        {
            file.parent.relative_to(folder).as_posix()
            for folder in folders
            for depth in ("*/*.yaml", "*/*/*.yaml")  # not **: a user's folder may be a whole home
            for file in folder.glob(depth)
        }
    )
