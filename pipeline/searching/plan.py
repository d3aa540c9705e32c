"""What a search runs, as its folder says it: decisions are written down before they are taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.configuration.study_rules import NAME
from pipeline.studies.plan import MultiTaskFacts, facts_from, read_plan
from pipeline.studies.trial_files import TrialFiles
from pollinate.errors import PollinateError
from pollinate.files import write_json

PLAN = "search.json"
FORMAT = 1
MOST_EPOCHS = 10**9
Kind = Literal["joint", "alone", "linear", "drawn", "student"]


@dataclass(frozen=True)
class Trial:
    """A model to train.

    name: of its folder below ``trials``.
    tasks: that it learns; overrides: on top of the recipe; epochs: of the whole run.
    source: the trial whose encoders and trunk it starts from, or None.
    drawn: what Optuna drew, {key: value}.
    """

    name: str
    kind: Kind
    tasks: list[str]
    overrides: list[str]
    epochs: int
    source: str | None = None
    drawn: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """Trials that are run side by side; what comes next depends on all of them.

    until: {trial: epochs after which it pauses; None: it is run to its end}.
    """

    title: str
    until: dict[str, int | None]


@dataclass
class SearchPlan:
    """A search as its folder says it.

    name: of the search; seed: of all draws and runs.
    overrides: the command line that says what the search is; base: those of every trial.
    config_dirs, folder: of the command line.
    chosen: what the preset chose, which ``base`` has.
    facts: of the run of all tasks; epochs: of that run.
    trials: {name: trial}; stages: in their order.
    """

    name: str
    seed: int
    overrides: list[str]
    base: list[str]
    config_dirs: list[str]
    folder: str
    chosen: list[str]
    facts: MultiTaskFacts
    epochs: int
    trials: dict[str, Trial] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        return list(self.facts.tasks)

    def save(self, folder: Path) -> None:
        # trials are started with these overrides, and a password may be among them
        write_json(folder / PLAN, {"format": FORMAT, **asdict(self)}, private=True)


def load_plan(folder: Path) -> SearchPlan | None:
    """Return the plan of a search's folder, None if it has none.

    Raises:
        PollinateError: it can't be read, or is none.
    """
    plain = read_plan(folder / PLAN, FORMAT)
    if plain is None:
        return None
    try:
        trials = {name: Trial(**own) for name, own in plain["trials"].items()}
        stages = [Stage(**own) for own in plain["stages"]]
        facts = facts_from(plain["facts"])
        plan = SearchPlan(**{**plain, "facts": facts, "trials": trials, "stages": stages})
        problem = next(filter(None, map(trial_problem, trials, trials.values())), "")
        texts = [*plan.overrides, *plan.base, *plan.config_dirs, *plan.chosen, plan.folder]
        texts += [text for trial in trials.values() for text in (*trial.overrides, *trial.tasks)]
        known = all(name in trials for stage in stages for name in stage.until)
        known &= all(one.source is None or one.source in trials for one in trials.values())
        known &= all(task in facts.tasks for one in trials.values() for task in one.tasks)
        pauses = [n for stage in stages for n in stage.until.values() if n is not None]
        known &= all(map(is_epochs, pauses))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PollinateError(f"{folder / PLAN} is no plan of a search: {error!r}") from error
    if problem:
        raise PollinateError(f"{folder / PLAN} is no plan of a search: {problem}")
    if not known or not all(isinstance(text, str) for text in texts):
        raise PollinateError(f"{folder / PLAN} is no plan of a search: it contradicts itself")
    return plan


def trial_problem(name: str, trial: Trial) -> str:
    """Say what is wrong with a trial that a file, perhaps a stranger's, tells of."""
    if not NAME.fullmatch(name) or trial.name != name:
        return f"a trial is called by a word, which names its folder, got {name!r:.80}"
    if not is_epochs(trial.epochs) or trial.kind not in get_args(Kind):
        return f"trial {name} has epochs {trial.epochs!r:.20} and kind {trial.kind!r:.20}"
    if not trial.tasks or not isinstance(trial.drawn, dict):
        return f"trial {name} has no tasks, or no values"
    return ""


def is_epochs(value: object) -> bool:
    return isinstance(value, int) and 1 <= value <= MOST_EPOCHS


def trial_files(folder: Path, name: str) -> TrialFiles:
    return TrialFiles(folder / "trials" / name)


def model_folder(folder: Path) -> Path:
    return folder / "model"
