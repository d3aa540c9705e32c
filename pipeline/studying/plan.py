"""What a study will run: decided once, kept in its folder, the same for all its processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import PollinateError
from pipeline.studying.facts import Facts, facts_from
from pipeline.studying.files import read_json, write_json
from pipeline.studying.place import Place, safe_name
from pipeline.studying.results import Arm

PLAN = "study.json"
FORMAT = 1


@dataclass
class Plan:
    """A study as its folder says it.

    name: of the study; seeds: of every arm.
    overrides: the command line that says what the study is; base: those of every trial.
    config_dirs, folder: of the command line.
    facts: of the joint run; arms: {name: arm}.
    budget, search, predictors: as configured.
    """

    name: str
    seeds: list[int]
    overrides: list[str]
    base: list[str]
    config_dirs: list[str]
    folder: str
    facts: Facts
    arms: dict[str, Arm]
    budget: str
    search: dict[str, Any] | None = None
    predictors: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write it."""
        write_json(folder / PLAN, {"format": FORMAT, **asdict(self)})


def load_plan(folder: Path) -> Plan | None:
    """Return the plan of a study's folder, None if it has none.

    Raises:
        PollinateError: it is damaged, or of another version.
    """
    plain = read_json(folder / PLAN)
    if plain is None:
        return None
    if not isinstance(plain, dict) or plain.pop("format", None) != FORMAT:
        raise PollinateError(
            f"{folder / PLAN} is of another version of pollinate; use that one, or a new run_dir"
        )
    arms = {name: arm_from(own) for name, own in plain["arms"].items()}
    return Plan(**{**plain, "facts": facts_from(plain["facts"]), "arms": arms})


def arm_from(plain: dict[str, Any]) -> Arm:
    """Return an arm from what JSON made of it."""
    weights = tuple((task, weight) for task, weight in plain["weights"])
    own = {key: tuple(plain[key]) for key in ("tasks", "overrides")}
    return Arm(**{**plain, **own, "weights": weights})


def trial_place(folder: Path, arm: str, seed: int) -> Place:
    """Return where a trial's files are."""
    return Place(folder / "trials" / safe_name(arm) / f"seed-{seed}")


def search_place(folder: Path, arm: str, number: int) -> Place:
    """Return where the files of a search's trial are."""
    return Place(folder / "search" / safe_name(arm) / f"trial-{number}")
