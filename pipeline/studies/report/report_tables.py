"""Tables of a report: every number that a picture or a sentence is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.studies.analysis.estimates import Change, IntervalEstimate
from pipeline.studies.report.report_data import (
    ORDER,
    PERCENT,
    PLAIN,
    ReportSubject,
    ScoreUnit,
    estimate_text,
    rounded,
)
from pipeline.studies.report.verdict import served_by
from pipeline.text_format import NOTHING, duration, format_bytes, format_scaled

TRUST_UNITS = {
    "ece_before": PLAIN,
    "ece": PLAIN,
    "nll": PLAIN,
    "coverage": PERCENT,
    "size": ScoreUnit(1.0, "", 2),
    "risk_area": PLAIN,
    "scope_area": PLAIN,
}
REFERENCES = {"baseline": "best constant answer", "linear": "linear model"}


@dataclass
class ReportTable:
    """title: above it; numbers: how many of the last columns are numbers; note: HTML-free text."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    numbers: int
    note: str = ""


def tables(subject: ReportSubject) -> Iterator[ReportTable]:
    every = (
        score_table, change_table, delta_table, calibration_table, transfer_table, label_table,
        grouping_table, predictor_table, trial_table,
    )  # fmt: skip
    yield from (table for make in every if (table := make(subject)).rows)


def score_table(subject: ReportSubject) -> ReportTable:
    units = subject.units
    rows = []
    arms = [arm for arm in subject.results.arms.values() if arm.name in subject.answers.scores]
    for arm in sorted(arms, key=lambda arm: (ORDER[arm.kind], -arm.labels)):
        own = subject.answers.scores[arm.name]
        cells = [plain(own[task], units[task]) if task in own else NOTHING for task in units]
        seeds = max((found.seeds for found in own.values()), default=0)
        rows.append([arm.name, arm.kind, str(seeds), *cells])
    for name, known in subject.results.references().items():
        shown = [units[task].number(known[task]) if task in known else NOTHING for task in units]
        rows.append([REFERENCES[name], "reference", "", *shown])
    note = f"Test scores ({metrics_text(subject)}): mean over seeds with its 95 % interval."
    return ReportTable("Scores", ["arm", "kind", "seeds", *units], rows, 1 + len(units), note)


def metrics_text(subject: ReportSubject) -> str:
    """Return what the scores are: ``accuracy in points; r2: price``."""
    found: dict[str, list[str]] = {}
    for task, metric in subject.results.metrics.items():
        unit = subject.units[task].word.strip()
        found.setdefault(f"{metric} in {unit}" if unit else metric, []).append(task)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{what}: {', '.join(tasks)}" for what, tasks in found.items())


def plain(found: IntervalEstimate, unit: ScoreUnit) -> str:
    return estimate_text(found, unit).removesuffix(unit.word)


def change_table(subject: ReportSubject) -> ReportTable:
    rows = []
    for comparison in subject.compared():
        for task, change in comparison.changes.items():
            unit, found = subject.units[task], change.difference
            sizes = [estimate_text(found, unit, sign=True), interval(found, unit)]
            rows.append([comparison.arm, task, change.verdict, *sizes, *tested(change)])
    headings = ["arm", "task", "verdict", "change", "95 %", "relative", "p", "adjusted p", "seeds"]
    note = (
        "Against the single-task run, paired by seed. The verdict goes by the adjusted p (Holm "
        "1979), which counts all comparisons of the study; an interval of one comparison doesn't."
    )
    return ReportTable("Changes", headings, rows, 6, note)


def tested(change: Change) -> list[str]:
    relative = estimate_text(change.relative, PERCENT, sign=True)
    return [relative, p_text(change.p), p_text(change.adjusted), str(change.difference.seeds)]


def interval(found: IntervalEstimate, unit: ScoreUnit) -> str:
    """Return ``+0.4 to +1.2``."""
    if found.low is None or found.high is None:
        return NOTHING
    return f"{unit.number(found.low, sign=True)} to {unit.number(found.high, sign=True)}"


def p_text(p: float | None) -> str:
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def delta_table(subject: ReportSubject) -> ReportTable:
    compared = [c for c in subject.compared() if len(c.changes) > 1]
    means = [(c.arm, len(c.changes), c.delta_m) for c in compared if c.delta_m is not None]
    means.sort(key=lambda one: -one[2].difference.mean)
    rows = [[arm, str(tasks), mean.verdict, *tested(mean)] for arm, tasks, mean in means]
    headings = ["arm", "tasks", "verdict", "delta_m", "p", "adjusted p", "seeds"]
    note = "delta_m: mean over an arm's tasks of the relative change (Maninis et al. 2019)."
    return ReportTable("Means over tasks", headings, rows, 4, note)


def calibration_table(subject: ReportSubject) -> ReportTable:
    rows = []
    for one in subject.answers.calibrations:
        found = one.figures
        cells = [estimate_text(found.get(name), unit) for name, unit in TRUST_UNITS.items()]
        change = estimate_text(one.change, PLAIN, sign=True)
        rows.append([one.arm, one.task, *cells[:2], change, *cells[2:]])
    headings = [
        "arm", "task", "error", "calibrated", "error, to alone", "-log p", "coverage", "set size",
        "risk area", "new classes",
    ]  # fmt: skip
    note = (
        "How far probabilities are off on test (expected calibration error), before and after "
        "calibration; what sets reach, and how large they are; the mean error over all shares of "
        "answered rows; how well rows of classes that the score doesn't know are told apart (area "
        "under the ROC, a half is chance)."
    )
    return ReportTable("Trust", headings, rows, 8, note)


def transfer_table(subject: ReportSubject) -> ReportTable:
    rows = [
        [t.source, t.target, t.arm, t.negative, t.gain.verdict,
         estimate_text(t.gain.difference, subject.units[t.target], sign=True),
         p_text(t.gain.adjusted)]
        for t in subject.answers.transfers
    ]  # fmt: skip
    headings = ["source", "target", "arm", "negative", "verdict", "gain", "adjusted p"]
    note = "weak: this loses; strong: every weight tried loses (Jiang et al. 2023, definition 3.1)."
    return ReportTable("Transfers", headings, rows, 2, note)


def label_table(subject: ReportSubject) -> ReportTable:
    rows = []
    for saved in subject.answers.saved:
        needed, less = f"{saved.beyond or 'more'} than tried", NOTHING
        if saved.needed is not None:
            counts = ScoreUnit(1.0, "", 0)
            needed = estimate_text(saved.needed, counts)
            less = f"{rounded(100 * (1 - saved.needed.mean / max(1, saved.of)), 0)} %"
        score = subject.units[saved.task].amount(saved.accuracy)
        rows.append([saved.task, saved.arm, score, f"{saved.of:,}", needed, less])
    headings = ["task", "arm", "score to reach", "single-task labels", "labels needed", "saved"]
    return ReportTable("Labels saved", headings, rows, 4)


def grouping_table(subject: ReportSubject) -> ReportTable:
    rows = [
        [
            str(found.models),
            "; ".join(f"{arm}: {', '.join(tasks)}" for arm, tasks in served_by(found).items()),
            " | ".join(" + ".join(group) for group in found.predicted) or NOTHING,
            PERCENT.amount(found.delta_m, sign=True),
            duration(found.seconds),
            NOTHING if found.parameters is None else format_scaled(found.parameters).strip(),
        ]
        for found in sorted(subject.answers.groupings, key=lambda found: found.models)
    ]
    headings = [
        "models",
        "which answers which tasks",
        "guessed, not trained",
        "delta_m",
        "training",
        "weights",
    ]
    note = (
        "Chosen by validation, measured on test; a model may be trained on tasks that another one "
        "answers. Training time and weights are those of all models together."
    )
    return ReportTable("Best groups", headings, rows, 3, note)


def predictor_table(subject: ReportSubject) -> ReportTable:
    rows = []
    for name, found in subject.answers.agreement.items():
        tau = found.reason or NOTHING if found.tau is None else rounded(found.tau, 2, sign=True)
        known = found.low is not None and found.high is not None
        ends = (
            f"{rounded(found.low or 0, 2)} to {rounded(found.high or 0, 2)}" if known else NOTHING
        )
        seconds = subject.results.predictor_seconds.get(name)
        cost = NOTHING if seconds is None else duration(seconds)
        rows.append([name, tau, ends, p_text(found.p), str(found.pairs), cost])
    headings = ["score", "Kendall's tau", "95 %", "p", "pairs", "time"]
    note = (
        "Do scores that cost little rank sources as the measured gains do? Those that begin with "
        "size know only how large a source is: what isn't better than they are says nothing."
    )
    return ReportTable("Scores that guess gains", headings, rows, 5, note)


def trial_table(subject: ReportSubject) -> ReportTable:
    rows = [
        [
            trial.arm, str(trial.seed), trial.status, trial.message or "",
            duration(trial.seconds) if trial.seconds else NOTHING,
            NOTHING if trial.memory is None else format_bytes(trial.memory),
            NOTHING if trial.parameters is None else format_scaled(trial.parameters).strip(),
            f"{sum(trial.rows_seen.values()):,}" if trial.rows_seen else NOTHING,
        ]
        for trial in subject.results.trials
    ]  # fmt: skip
    headings = ["arm", "seed", "status", "message", "time", "memory", "weights", "rows seen"]
    return ReportTable("Runs", headings, rows, 4)
