"""Optuna's draws: values of the space for new trials, by what the earlier ones reached."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.searching.space import Space
from pollinate.errors import PollinateError

DATABASE = "search.db"
TRIES = 8  # draws for each trial, of which the first one that can be run is taken
FIRST = 6  # trials that are drawn at random, before Optuna's model has something to say
NAME = "trial"  # user attribute of Optuna's trials: the folder's name


@dataclass(frozen=True)
class Told:
    """A drawn trial that has ended.

    drawn: its values; at: {epochs: quality after them}, larger is better.
    value: quality at its end; None: it was given up before, or failed.
    """

    drawn: Mapping[str, Any]
    at: Mapping[int, float] = field(default_factory=dict)
    value: float | None = None
    failed: bool = False


def draw(
    space: Space,
    told: Mapping[str, Told],
    count: int,
    seed: int,
    wanted: Callable[[Mapping[str, Any]], bool] = lambda _: True,
) -> list[dict[str, Any]]:
    """Return values for new trials, {key: value} each: as many as are wanted among all draws.

    They depend on the arguments alone: neither on an interruption nor on how many run at a time.
    Trials drawn together keep apart (``constant_liar``). Source: Bergstra et al. 2011, "Algorithms
    for hyper-parameter optimization", section 4, the multivariate form (Falkner et al. 2018).

    Args:
        space: what to draw from.
        told: {name: what came of it} of all drawn trials that have ended.
        count: of new ones.
        seed: of the draws.
        wanted: says whether a trial can be run; what can't is drawn again, up to ``TRIES`` times.
    """
    import optuna  # optional, and a second
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=FIRST, multivariate=True, constant_liar=True, seed=seed
    )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    kinds = space.distributions()
    study.add_trials([frozen(name, one, kinds) for name, one in told.items()])
    found: list[dict[str, Any]] = []
    for _ in range(TRIES * count):
        if len(found) == count:
            break
        trial = study.ask(kinds)
        if wanted(trial.params):
            found.append(dict(trial.params))
        else:
            study.tell(trial, state=TrialState.FAIL)
    return found


def frozen(name: str, told: Told, distributions: Mapping[str, Any]) -> Any:
    """Return a trial as Optuna keeps it."""
    from optuna.trial import TrialState, create_trial

    ended = TrialState.PRUNED if told.value is None else TrialState.COMPLETE
    return create_trial(
        params=dict(told.drawn),
        distributions={key: distributions[key] for key in told.drawn},
        value=told.value,
        intermediate_values=dict(told.at),
        state=TrialState.FAIL if told.failed else ended,
        user_attrs={NAME: name},
    )


def keep(folder: Path, name: str, space: Space, told: Mapping[str, Told]) -> None:
    """Add to Optuna's storage in the search's folder what it lacks; its own tools can show it.

    Raises:
        PollinateError: it can't be written.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = folder / DATABASE
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{file.absolute()}",
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )
        known = {trial.user_attrs.get(NAME) for trial in study.get_trials(deepcopy=False)}
        wanted = space.distributions()
        study.add_trials([frozen(n, one, wanted) for n, one in told.items() if n not in known])
    except Exception as error:
        reason = " ".join(str(error).split())
        raise PollinateError(f"Optuna can't keep the trials in {file}: {reason}") from error


def name_of(number: int) -> str:
    """Return the name of the drawn trial with a number, from 0."""
    return f"drawn-{number + 1:03d}"


def unused_names(used: Container[str]) -> Iterator[str]:
    """Yield names for new trials; how many there are says none, as some may have been left out."""
    return (name for name in map(name_of, itertools.count()) if name not in used)
