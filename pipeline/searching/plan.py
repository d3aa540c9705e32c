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
    recipe: the plan's other recipe that it is round, None for the search's own.
    rungs: epochs after which it is compared with others, the last one its end; empty: never.
    taught_by: of a student, {task: {model: its share of what it learns from}}.
    """

    name: str
    kind: Kind
    tasks: list[str]
    overrides: list[str]
    epochs: int
    source: str | None = None
    drawn: dict[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    rungs: list[int] = field(default_factory=list)
    taught_by: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Recipe:
    """How models are trained, before anything is drawn.

    base: overrides of each trial; chosen: those of them that a preset chose.
    facts: of the run of all tasks; epochs: of that run.
    """

    base: list[str]
    chosen: list[str]
    facts: MultiTaskFacts
    epochs: int


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
    others: {preset: the recipe that it chose}, from which is drawn, too.
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
    others: dict[str, Recipe] = field(default_factory=dict)

    def recipe(self, name: str | None) -> Recipe:
        """Return a recipe, the search's own for None."""
        if name is not None:
            return self.others[name]
        return Recipe(self.base, self.chosen, self.facts, self.epochs)

    @property
    def recipes(self) -> dict[str | None, Recipe]:
        """All recipes, the search's own first."""
        return {name: self.recipe(name) for name in (None, *self.others)}

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
        others = {
            name: Recipe(**{**own, "facts": facts_from(own["facts"])})
            for name, own in plain.get("others", {}).items()
        }
        facts = facts_from(plain["facts"])
        own = {"facts": facts, "trials": trials, "stages": stages, "others": others}
        plan = SearchPlan(**{**plain, **own})
        problem = next(filter(None, map(trial_problem, trials, trials.values())), "")
        texts = [*plan.overrides, *plan.config_dirs, plan.folder]
        texts += [text for one in plan.recipes.values() for text in (*one.base, *one.chosen)]
        texts += [text for trial in trials.values() for text in (*trial.overrides, *trial.tasks)]
        known = all(name in trials for stage in stages for name in stage.until)
        known &= all(one.source is None or one.source in trials for one in trials.values())
        known &= all(task in facts.tasks for one in trials.values() for task in one.tasks)
        pauses = [n for stage in stages for n in stage.until.values() if n is not None]
        pauses += [n for one in trials.values() for n in one.rungs]
        pauses += [one.epochs for one in others.values()]
        known &= all(map(is_epochs, pauses))
        known &= all(one.recipe in plan.recipes for one in trials.values())
        known &= all(NAME.fullmatch(name) is not None for name in others)
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
