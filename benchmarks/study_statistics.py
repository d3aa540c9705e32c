"""How often a study's intervals cover the truth, its tests flag nothing, and find what is there.

    python -m benchmarks.study_statistics              # tables of docs/explanation/statistics.md
    python -m benchmarks.study_statistics studies=100  # faster, coarser

All scores are simulated from a seed. Takes half a minute of one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from pipeline.studies.analysis.comparisons import AllComparisons, compare
from pipeline.studies.analysis.paired_tests import holm
from pipeline.studies.analysis.score_table import score_table
from pipeline.studies.results import Arm, StudyResults, TrialResult

SEEDS = (3, 5, 10, 20)
MEANS, RESAMPLES = 2000, 500  # simulated samples, and resamples of each
STUDIES = 400  # simulated of each kind
LEVEL = 0.95
FAR = 1e9  # t of a resample that does not vary
TASKS = ("a", "b", "c", "d")

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def gamma(shape: float) -> Draw:
    """Return a distribution of skewness -2 / sqrt(shape), mean 0 and sd 1: rare bad runs."""

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        return (shape - rng.gamma(shape, size=size)) / np.sqrt(shape)

    return draw


def normal(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Return a sample of mean 0 and sd 1."""
    return rng.normal(size=size)


def heavy(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Return Student's t of 5 degrees of freedom, sd 1: kurtosis 9."""
    return rng.standard_t(5, size) / np.sqrt(5 / 3)


def accuracies(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Return accuracies near 0.95 of 300 test rows, less their mean: seeds differ by a point."""
    p = rng.beta(0.95 * 400, 0.05 * 400, size)
    found: np.ndarray = rng.binomial(300, p) / 300 - 0.95
    return found


SHAPES: Mapping[str, Draw] = {
    "normal": normal,
    "heavy tails (t, 5)": heavy,
    "accuracies near 95 %": accuracies,
    "skewness -0.5": gamma(16),
    "skewness -1": gamma(4),
}


def covered(x: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return the share of samples (R, n) whose interval encloses the mean 0, by method."""
    n = x.shape[1]
    mean, error = x.mean(1), x.std(1, ddof=1) / np.sqrt(n)
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * error
    found = {"Student's t": float(np.mean(np.abs(mean) <= half))}
    drawn = x[:, rng.integers(0, n, (RESAMPLES, n))]  # (R, B, n)
    means = drawn.mean(2)
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    found["percentile"] = inside(*np.quantile(means, tails, axis=1))
    found["BCa"] = inside(*bca(x, means, tails))
    spread = drawn.std(2, ddof=1) / np.sqrt(n)
    away = means - mean[:, None]
    t = np.where(spread > 1e-12, away / np.maximum(spread, 1e-12), np.sign(away) * FAR)
    low, high = np.quantile(t, tails, axis=1)
    found["bootstrap-t"] = inside(mean - high * error, mean - low * error)
    return found


def bca(x: np.ndarray, means: np.ndarray, tails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bias-corrected and accelerated ends of each sample (Efron 1987)."""
    samples, n = x.shape
    below = (means < x.mean(1)[:, None]).mean(1) + (means == x.mean(1)[:, None]).mean(1) / 2
    bias = ndtri(np.clip(below, 1e-3, 1 - 1e-3))
    without = (x.sum(1, keepdims=True) - x) / (n - 1)
    away = without.mean(1, keepdims=True) - without
    speed = (away**3).sum(1) / np.maximum(6 * (away**2).sum(1) ** 1.5, 1e-300)
    ordered = np.sort(means, axis=1)
    ends = []
    for z in ndtri(tails):
        share = ndtr(bias + (bias + z) / (1 - speed * (bias + z)))
        at = np.clip((share * means.shape[1]).astype(int), 0, means.shape[1] - 1)
        ends.append(ordered[np.arange(samples), at])
    return ends[0], ends[1]


def inside(low: np.ndarray, high: np.ndarray) -> float:
    """Return the share of intervals that enclose 0."""
    return float(np.mean((low <= 0) & (high >= 0)))


def interval_table(seed: int = 0) -> None:
    """Print how often intervals of the mean cover it."""
    rng = np.random.default_rng(seed)
    print("| scores | seeds | Student's t | percentile | BCa | bootstrap-t |")
    print("|---|---|---|---|---|---|")
    for name, draw in SHAPES.items():
        for n in SEEDS:
            found = covered(draw(rng, (MEANS, n)), rng)
            print(f"| {name} | {n} | " + " | ".join(f"{v:.1%}" for v in found.values()) + " |")


def scores(arms: int, draw: Draw = normal, correlation: float = 0.0) -> Callable[..., np.ndarray]:
    """Return a way to draw scores (T, arms, n), arm 0 single-task, of which nothing differs."""

    def drawn(rng: np.random.Generator, n: int) -> np.ndarray:
        own = draw(rng, (len(TASKS), arms, n)) * np.sqrt(1 - correlation)
        return own + draw(rng, (len(TASKS), 1, n)) * np.sqrt(correlation)

    return drawn


def noisier(arms: int, sd: float, task: slice, arm: int) -> Callable[..., np.ndarray]:
    """Return scores of which one arm's sd is larger, in all tasks or some."""

    def drawn(rng: np.random.Generator, n: int) -> np.ndarray:
        found = scores(arms)(rng, n)
        found[task, arm] *= sd
        return found

    return drawn


def uneven(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return scores of which every arm in every task has an sd of its own, e^N(0, 0.35)."""
    return scores(4)(rng, n) * np.exp(0.35 * rng.normal(size=(len(TASKS), 4, 1)))


NULLS: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "equal, normal": scores(4),
    "9 arms": scores(10),
    "1 arm": scores(2),
    "heavy tails": scores(4, heavy),
    "skewness -1": scores(4, gamma(4)),
    "seeds correlate 0.5": scores(4, correlation=0.5),
    "single-task 2x as noisy": noisier(4, 2.0, slice(None), 0),
    "an arm 3x as noisy": noisier(4, 3.0, slice(None), 1),
    "an arm 3x in one task": noisier(4, 3.0, slice(0, 1), 1),
    "single-task 3x in one task": noisier(4, 3.0, slice(0, 1), 0),
    "every sd differs": uneven,
}


def as_results(y: np.ndarray) -> StudyResults:
    """Return a study with scores (T, arms, n): single-task, multi-task and variants."""
    single = [Arm(f"single_task:{task}", "single_task", (task,)) for task in TASKS]
    shared = [Arm(f"v{at}", "variant", TASKS) for at in range(1, y.shape[1])]
    trials = []
    for s in range(y.shape[2]):
        for t, arm in enumerate(single):
            trials.append(done(arm.name, s, {TASKS[t]: 10 + float(y[t, 0, s])}))
        for at, arm in enumerate(shared, start=1):
            own = {task: 10 + float(y[t, at, s]) for t, task in enumerate(TASKS)}
            trials.append(done(arm.name, s, own))
    arms = {arm.name: arm for arm in [*single, *shared]}
    return StudyResults("simulated", dict.fromkeys(TASKS, "accuracy"), [], arms, trials)


def done(arm: str, seed: int, test: dict[str, float]) -> TrialResult:
    return TrialResult(arm, seed, "", [], "finished", test=test)


def paired(y: np.ndarray) -> np.ndarray:
    """Return Holm's p of paired t-tests: (T, arms - 1)."""
    d = y[:, 1:] - y[:, :1]
    n = d.shape[2]
    return adjusted(d.mean(2) / (d.std(2, ddof=1) / np.sqrt(n)), n - 1)


def pooled(y: np.ndarray) -> np.ndarray:
    """Return Holm's p with one variance a task, of all arms (blocks by seed): (T, arms - 1)."""
    d, n, arms = y[:, 1:] - y[:, :1], y.shape[2], y.shape[1]
    rest = y - y.mean(2, keepdims=True) - y.mean(1, keepdims=True) + y.mean((1, 2), keepdims=True)
    freedom = (arms - 1) * (n - 1)
    error = np.sqrt(2 * (rest**2).sum((1, 2)) / freedom / n)
    return adjusted(d.mean(2) / error[:, None], freedom)


def adjusted(t: np.ndarray, freedom: int) -> np.ndarray:
    return np.array(holm(list((2 * stdtr(freedom, -np.abs(t))).ravel()))).reshape(t.shape)


def flags(found: AllComparisons) -> Iterator[bool]:
    """Yield whether each change of a study is called helped or hurt, delta_m's too."""
    for one in found.comparisons.values():
        for change in [*one.changes.values(), one.delta_m]:
            yield change is not None and change.verdict != "unclear"


def null_table(studies: int, seed: int = 1) -> None:
    """Print how often a study without effects flags any, and what its intervals cover."""
    rng = np.random.default_rng(seed)
    print(
        "| no effect; noise is | seeds | flagged | by paired t | by one variance a task | cover |"
    )
    print("|---|---|---|---|---|---|")
    for name, draw in NULLS.items():
        for n in (3, 5):
            counts, covers = np.zeros(3), []
            for _ in range(studies):
                y = draw(rng, n)
                found = compared(y)
                counts += [
                    any(flags(found)),
                    *(bool((p(y) <= 0.05).any()) for p in (paired, pooled)),
                ]
                covers.append(coverage(found, {}))
            shares = " | ".join(f"{one:.1%}" for one in counts / studies)
            print(f"| {name} | {n} | {shares} | {np.mean(covers):.1%} |", flush=True)


def power_table(studies: int, seed: int = 2) -> None:
    rng = np.random.default_rng(seed)
    print("| effect | seeds correlate | seeds | found | by paired t | by one variance a task |")
    print("|---|---|---|---|---|---|")
    for correlation in (0.0, 0.5):
        for n in (3, 5):
            for effect in (1, 2, 3):
                counts = np.zeros(3)
                for _ in range(studies):
                    y = scores(4, correlation=correlation)(rng, n)
                    y[0, 1] += effect
                    own = compared(y).comparisons["v1"].changes["a"].verdict == "helped"
                    counts += [own, *(p(y)[0, 0] <= 0.05 for p in (paired, pooled))]
                shares = " | ".join(f"{one:.0%}" for one in counts / studies)
                print(f"| {effect} sd | {correlation} | {n} | {shares} |", flush=True)


def compared(y: np.ndarray) -> AllComparisons:
    """Return the comparisons of a study with scores (T, arms, n)."""
    results = as_results(y)
    return compare(results, score_table(results), LEVEL)


def coverage(found: AllComparisons, truth: Mapping[tuple[str, str], float]) -> float:
    """Return the share of changes whose interval encloses the true one, 0 if not named."""
    inside = []
    for arm, one in found.comparisons.items():
        for task, change in one.changes.items():
            low, high = change.difference.low, change.difference.high
            true = truth.get((arm, task), 0.0)
            inside.append(low is not None and high is not None and low <= true <= high)
    return float(np.mean(inside))


def main(argv: Sequence[str]) -> None:
    named = dict(a.split("=", 1) for a in argv)
    studies = int(named.get("studies", STUDIES))
    interval_table()
    print()
    null_table(studies)
    print()
    power_table(studies)


if __name__ == "__main__":
    main(sys.argv[1:])
