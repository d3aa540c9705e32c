"""Every arm against each of its tasks alone, all tests of the study held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.studying.analysis.baselines import baselines, compared
from pipeline.studying.analysis.delta_m import delta, tested_deltas
from pipeline.studying.analysis.holm import holm
from pipeline.studying.analysis.kinds import kind
from pipeline.studying.analysis.noise import Cell, Noise, noise
from pipeline.studying.analysis.pairing import pair
from pipeline.studying.analysis.table import Seeds, Table
from pipeline.studying.analysis.tested import Place, Tested, tested
from pipeline.studying.answers import Change, Comparison, Verdict
from pipeline.studying.results import Arm, Results

DELTA = ""  # in place of a task: their mean


@dataclass
class Compared:
    """tests: {(arm, task): its test}; tests_done: of the whole study, delta_m's included."""

    comparisons: dict[str, Comparison]
    tests: dict[tuple[str, str], Tested]
    tests_done: int
    notes: list[str] = field(default_factory=list)


def compare(results: Results, table: Table, level: float) -> Compared:
    """Return the changes of all arms, p adjusted over all tasks and delta_m of all arms."""
    notes: list[str] = []
    tests = _tests(results, table, level, notes) | _deltas(results, table, level)
    keys = [key for key, test in tests.items() if test.p is not None]
    adjusted = dict(zip(keys, holm([tests[key].p or 0.0 for key in keys]), strict=True))
    changes = {key: change(test, adjusted.get(key), level) for key, test in tests.items()}
    found = {}
    for name, arm in compared(results).items():
        own = {task: changes[name, task] for task in arm.tasks if (name, task) in changes}
        if own:
            found[name] = Comparison(name, own, changes.get((name, DELTA)) or _only(own))
            known = [task for task, one in own.items() if one.relative is not None]
            if 0 < len(known) < len(arm.tasks):
                notes.append(f"delta_m of {name} is of {', '.join(known)} only")
    return Compared(found, tests, len(keys), notes)


def change(test: Tested, adjusted: float | None, level: float) -> Change:
    """Return a test with its verdict, helped or hurt where adjusted p <= 1 - level."""
    verdict: Verdict = "unclear"
    if adjusted is not None and adjusted <= 1 - level:
        verdict = "helped" if test.difference.mean > 0 else "hurt"
    return Change(test.difference, test.relative, test.p, adjusted, verdict)


def _only(changes: Mapping[str, Change]) -> Change | None:
    """Return delta_m of a single relative change, which needs no second test; None for none."""
    for one in changes.values():
        if one.relative is not None:
            return Change(one.relative, one.relative, one.p, one.adjusted, one.verdict)
    return None


def study_noise(results: Results, table: Table) -> Noise:
    """Return the noise of all arms, baselines too: rows are tasks with a share of the labels."""
    cells: dict[Cell, Seeds] = {
        ((task, arm.labels), name): table.seeds(name, task)
        for name, arm in results.arms.items()
        for task in arm.tasks
    }
    return noise(cells, {name: kind(arm) for name, arm in results.arms.items()})


def _tests(
    results: Results, table: Table, level: float, notes: list[str]
) -> dict[tuple[str, str], Tested]:
    learnt, alone = study_noise(results, table), baselines(results)
    found = {}
    left_out: dict[str, list[str]] = {}
    for name, arm in compared(results).items():
        for task in arm.tasks:
            base = alone.get((task, arm.labels))
            both = pair(table.seeds(name, task), table.seeds(base, task)) if base else None
            if both is None or base is None:
                why = _uncompared(name, task, arm, base, table)
                left_out.setdefault(why, []).append(f"{name} ({task})")
                continue
            found[name, task] = tested(both, Place(learnt, (task, arm.labels), name, base), level)
            if both.ratio is None:
                notes.append(f"{base} scores 0 in {task}: {name} has no relative change there")
            elif len(both.seeds) > 1 and found[name, task].p is None:
                notes.append(f"{name} and {base} don't vary in {task} over seeds: no test")
    notes += [f"{why}: not compared: {', '.join(arms)}" for why, arms in left_out.items()]
    return found


def _uncompared(name: str, task: str, arm: Arm, base: str | None, table: Table) -> str:
    """Return why an arm isn't compared in a task."""
    if base is None:
        share = "" if arm.labels == 1 else f" with {arm.labels:.0%} of the labels"
        return f"no arm trains {task} alone{share}"
    if not table.seeds(name, task):
        return "no run has a score yet"
    if not table.seeds(base, task):
        return f"no run of {base} has a score yet"
    return f"no seed in common with {base}"


def _deltas(results: Results, table: Table, level: float) -> dict[tuple[str, str], Tested]:
    alone = {key: table.seeds(base, key[0]) for key, base in baselines(results).items()}
    deltas = {}
    for name, arm in compared(results).items():
        own = {task: table.seeds(name, task) for task in arm.tasks}
        base: Mapping[str, dict[int, float]] = {t: alone.get((t, arm.labels), {}) for t in own}
        found = delta(own, base, arm.labels)
        if found and len(found.tasks) > 1:
            deltas[name] = found
    return {(arm, DELTA): test for arm, test in tested_deltas(deltas, alone, level).items()}
