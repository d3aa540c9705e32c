"""Runs and models in Python: what ``po.fit``, ``po.load``, ``po.merge`` and the like give back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from datamodules.inputs import InputColumns
from pipeline import calibrate as calibrate_command
from pipeline import evaluate as evaluate_command
from pipeline import export as export_command
from pipeline import fit as fit_command
from pipeline import merge as merge_command
from pipeline.api.explanations import Explanations, Rows
from pipeline.command import own_packages
from pipeline.run_folder import RunFolder, new_run_folder
from pipeline.tracking.journals import read_points
from pipeline.tracking.mlflow_settings import DATABASE
from pollinate.errors import PollinateError, UsageError
from pollinate.overrides import override, overrides_of
from pollinate.recipes import Recipe

if TYPE_CHECKING:  # they import torch, which a run's figures don't need
    from lightning_modules.kept_outputs import TaskOutputs
    from lightning_modules.merging.base import MergeMethod
    from lightning_modules.predictor import Predictions, Predictor
    from lightning_modules.task_network import TaskNetwork
    from lightning_modules.tasks.base import Task

Data = str | Path | Mapping[str, Any]  # a data file, an option's name, or what a file would hold
Scores = dict[str, dict[str, float]]  # {task: {metric: value}}
ABSTAIN_WORDS = ("risk", "answered", "false_alarms", "together")
UNFINISHED = "unfinished"  # status of a run that is at work, or was killed


def fit(
    data: Data | None = None,
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[str | Path] = (),
    quiet: bool = False,
) -> Run:
    """Train as ``pollinate fit`` does, and return the run.

    Everything of the command line holds: the run folder, MLflow, exact resume. The process is
    afterwards as it was before.

    Args:
        data: a data file, the name of a shipped option, or a dict of what a data file holds, whose
            paths are relative to the current folder; None: the quickstart, or what ``resume`` says.
        overrides: as on the command line: ``["balancer=upgrad", "seed=1"]``.
        config_dirs: folders with configurations of your own, searched before the shipped ones.
        quiet: whether nothing is printed but warnings.

    Raises:
        UsageError: the configuration or the data are wrong; nothing was started.
        PollinateError: the run failed in a way that the message explains.
        InterruptedRunError: Ctrl-C or SIGTERM stopped it, after everything was saved.

    Examples:
        >>> import pollinate as po
        >>> run = po.fit("shop.yaml", ["trainer.max_steps=2", "tracking=none"], quiet=True)
        >>> run.status, run.checkpoint.name
        ('finished', 'best.ckpt')
        >>> sorted(run.scores)
        ['mood', 'stars']
    """
    found = fit_command.call(overrides, data=data, config_dirs=config_dirs, quiet=quiet)
    return Run(found.folder.path)


class Run:
    """A training run, read from its folder: scores, history, checkpoint, model.

    A run that is still at work, or that was stopped, has what there is of it so far.

    Args:
        folder: of the run; ``po.fit`` gives a run whose folder it made.

    Raises:
        PollinateError: the folder holds no run.

    Examples:
        >>> import pandas as pd, pollinate as po
        >>> run = po.Run("runs/first")
        >>> run.table.columns.tolist()
        ['valid', 'test', 'baseline']
        >>> run.predict(pd.read_csv("reviews.csv"), tasks=["mood"]).columns.tolist()
        ['mood', 'mood_probability', 'error']
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._files = RunFolder(self.folder)
        if not self._files.config.is_file():
            raise PollinateError(
                f"{self.folder} holds no run: there is no {self._files.config.name}; give the "
                "folder that po.fit or pollinate fit made"
            )

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.status})"

    @property
    def summary(self) -> dict[str, Any]:
        """All that summary.json says; empty before the run ended."""
        return self._files.read_summary()

    @property
    def status(self) -> str:
        """How the run ended: finished, interrupted or failed; unfinished before that."""
        return str(self.summary.get("status", UNFINISHED))

    @property
    def run_id(self) -> str | None:
        """Of the MLflow run; None: no server has answered yet, or nothing is tracked."""
        return self.summary.get("run_id")

    @property
    def scores(self) -> Scores:
        """Of the best weights on the test split: {task: {metric: value}}."""
        return self._scores("test")

    @property
    def valid_scores(self) -> Scores:
        """Of the best weights on the validation split: {task: {metric: value}}."""
        return self._scores("valid")

    @property
    def baseline(self) -> Scores:
        """Of the best constant answer on the test split: {task: {metric: value}}."""
        return self._scores("baseline")

    def _scores(self, split: str) -> Scores:
        found: dict[str, dict[str, float | None]] = self.summary.get(split, {})
        return {
            task: {metric: math.nan if value is None else value for metric, value in own.items()}
            for task, own in found.items()
        }

    @property
    def calibration(self) -> dict[str, dict[str, Any]]:
        """What calibrates each task, and its figures on test before and after; empty without."""
        return dict(self.summary.get("calibration", {}))

    @property
    def table(self) -> pd.DataFrame:
        """Scores for people: a row for each task and metric; columns valid, test and baseline."""
        parts = {"valid": self.valid_scores, "test": self.scores, "baseline": self.baseline}
        rows = list(dict.fromkeys((t, m) for s in parts.values() for t in s for m in s[t]))
        index = pd.MultiIndex.from_tuples(rows, names=["task", "metric"])
        columns = {
            name: [own.get(task, {}).get(metric) for task, metric in rows]
            for name, own in parts.items()
        }
        return pd.DataFrame(columns, index=index, dtype="float64")

    @property
    def config(self) -> dict[str, Any]:
        """The composed configuration, plain values; secrets are left out."""
        return self._files.read_config()

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint with the best validation score, of the last one if none is best.

        Raises:
            PollinateError: none is written yet.
        """
        from lightning_modules.checkpoints import BEST, LAST  # imports torch

        places = [self._files.checkpoints / name for name in (BEST, LAST)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise PollinateError(
                f"{self.folder} has no checkpoint yet; the first one is written after "
                "checkpoint.every_n_steps steps"
            )
        return found

    def metrics(self) -> pd.DataFrame:
        """Return the run's history, all that metrics.jsonl holds.

        Returns:
            A row for each value: step (optimizer steps), name (``train/mood/loss``), value, time
            (UTC). ``.pivot(index="step", columns="name", values="value")`` has a column a metric.
        """
        points = list(read_points(self._files.metrics))
        return pd.DataFrame(
            {
                "step": [point.step for point in points],
                "name": [point.key for point in points],
                "value": [float(point.value) for point in points],
                "time": pd.to_datetime([point.time_ms for point in points], unit="ms", utc=True),
            }
        )

    def outputs(self, split: str) -> dict[str, TaskOutputs]:
        """Return what the best weights answer to a split, of a run with ``keep_outputs``.

        Args:
            split: valid or test.

        Returns:
            {task: {"output": (N, ...) float32, as the head gives it, "target": (N, ...), "rows":
            {data set: int64 numbers of its rows, from 0}}} of the N rows with a label, those of the
            task's first data set by rising number, then the second's. All runs on the same data and
            split have the same order.

        Raises:
            PollinateError: the run kept none.
        """
        import torch

        path = self._files.outputs(split)
        if not path.is_file():
            raise PollinateError(
                f"{self.folder} kept no outputs of the {split} split; train with "
                f"keep_outputs=[{split}], which takes valid and test"
            )
        found: dict[str, TaskOutputs] = torch.load(path, weights_only=True)
        return found

    def model(self, allow_targets: Sequence[str] = ()) -> Model:
        """Return the model of ``checkpoint``.

        Args:
            allow_targets: packages of your own whose classes the checkpoint may name.
        """
        return load(self.checkpoint, allow_targets=allow_targets)

    @cached_property
    def _model(self) -> Model:
        return self.model()

    def predict(
        self,
        rows: pd.DataFrame | Mapping[str, Sequence[Any]],
        inputs: Mapping[str, InputColumns] | None = None,
        tasks: Sequence[str] | None = None,
        batch_size: int = 256,
        *,
        coverage: float | None = None,
        per_class: bool = False,
        abstain: Mapping[str, Any] | None = None,
        parts: bool = False,
        dropout: int = 0,
        decoding: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return the answers of the run's model for rows; see ``Model.predict``."""
        return self._model.predict(
            rows,
            inputs,
            tasks,
            batch_size,
            coverage=coverage,
            per_class=per_class,
            abstain=abstain,
            parts=parts,
            dropout=dropout,
            decoding=decoding,
        )

    def calibrate(self, coverage: float | None = None) -> dict[str, dict[str, Any]]:
        """Calibrate the run's best checkpoint on its validation rows; see ``po.calibrate``."""
        words = [] if coverage is None else [f"coverage={coverage}"]
        found = calibrate(self, words, quiet=True)
        self.__dict__.pop("_model", None)  # which was loaded without it
        return found

    def explain(
        self,
        rows: Rows,
        tasks: Sequence[str] | None = None,
        **options: Any,
    ) -> Explanations:
        """Say what counts in the answers of the run's model for rows; see ``po.explain``."""
        return self._model.explain(rows, tasks, **options)


def load(
    what: str | Path | Run | Model, *, uri: str = DATABASE, allow_targets: Sequence[str] = ()
) -> Model:
    """Load a trained model, with all that it needs to answer new rows.

    Args:
        what: a checkpoint, also one that a ``ModelCheckpoint`` of your own Trainer wrote; a run
            folder, of which the best checkpoint is taken; an MLflow run id; a registered model,
            ``models:/NAME/VERSION``; or a run.
        uri: MLflow's address, where a run id or a registered model is looked up.
        allow_targets: packages of your own whose classes the checkpoint may name. What it says
            of this itself doesn't count: it may be a stranger's.

    Raises:
        PollinateError: nothing of that name is there, or it is torn or of another format.
        UsageError: it names a class that isn't allowed.

    Examples:
        >>> import pollinate as po
        >>> model = po.load("runs/first")
        >>> list(model.tasks)
        ['mood', 'stars']
        >>> len(model.predict({"text": ["good bread", "bad tea"]}))
        2
    """
    from lightning_modules.predictor import Predictor  # imports torch

    if isinstance(what, Model):
        return what
    path = checkpoint_of(what, uri)
    return Model(path, Predictor.load(path, allow_targets))


def checkpoint_of(what: str | Path | Run | Model, uri: str = DATABASE) -> Path:
    """Return the checkpoint that is meant; see ``load``."""
    from pipeline.find_checkpoint import find_checkpoint  # imports torch

    if isinstance(what, Run | Model):
        return what.checkpoint
    return find_checkpoint(str(Path(what).expanduser()), uri)


class Model:
    """A trained model: it answers rows for each of its tasks. ``po.load`` and ``po.merge`` give it.

    Attributes:
        checkpoint: path of the file that it was loaded from.

    Examples:
        >>> import pandas as pd, pollinate as po
        >>> model = po.load("runs/first")
        >>> frame = pd.read_csv("reviews.csv")
        >>> answers = model.predict(frame)
        >>> answers.index.equals(frame.index), answers.columns.tolist()
        (True, ['mood', 'mood_probability', 'stars', 'stars_probability', 'error'])
        >>> model.predict_rows({"text": ["good fresh bread"]}).answers["mood"][0]["label"]
        'glad'
    """

    def __init__(self, checkpoint: Path, predictor: Predictor) -> None:
        self.checkpoint = checkpoint
        self._predictor = predictor

    def __repr__(self) -> str:
        return f"Model({str(self.checkpoint)!r}, tasks={list(self.tasks)})"

    @property
    def tasks(self) -> dict[str, Task]:
        """{name: task}, with the classes that it has learnt."""
        return dict(self._predictor.tasks)

    @property
    def inputs(self) -> dict[str, Mapping[str, InputColumns]]:
        """{data set: {modality: its column in training}}."""
        return dict(self._predictor.inputs)

    @property
    def network(self) -> TaskNetwork:
        """The network, a ``torch.nn.Module`` in evaluation mode; move it as you would any other."""
        return self._predictor.network

    def predict(
        self,
        rows: pd.DataFrame | Mapping[str, Sequence[Any]],
        inputs: Mapping[str, InputColumns] | None = None,
        tasks: Sequence[str] | None = None,
        batch_size: int = 256,
        *,
        coverage: float | None = None,
        per_class: bool = False,
        abstain: Mapping[str, Any] | None = None,
        parts: bool = False,
        dropout: int = 0,
        decoding: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer rows.

        Args:
            rows: N of them, in a DataFrame or as {"text": [...]}. A modality is read from the
                column that has the name of training, or the modality's own: ``text``, ``image``,
                ``audio``. Pictures and sounds are paths, contents of files or arrays.
            inputs: which column is which where the names differ: ``{"text": "review"}``.
            tasks: the tasks wanted; None: all that the columns suffice for.
            batch_size: rows at a time, >= 1.
            coverage: c, in (0, 1): sets and intervals beside the answers that hold the truth with
                this probability; None: those that training asked for.
            per_class: whether the coverage is to hold for each class.
            abstain: {"risk": r}, {"answered": share} or {"false_alarms": share}: a column says
                which answers to doubt; with {"together": True} strange rows are marked by the
                scores of all tasks together; see ``pollinate predict``.
            parts: whether ``mood_total``, ``mood_aleatoric`` and ``mood_epistemic`` say whence the
                uncertainty comes: of the rows, or of what an ensemble's members disagree on.
            dropout: times that each model answers with its dropout, for ``parts``; 0: not at all.
            decoding: how answers in words are written otherwise than in training:
                ``{"beams": 4, "max_answer": 64}``; also temperature, top_k, top_p, seed, stop.

        Returns:
            A DataFrame with the index of ``rows`` and the columns that ``pollinate predict``
            writes: ``mood`` and ``mood_probability`` for a task mood, and ``error``, which says why
            a row has no answer. A mask or depth is an array (height, width). With a coverage
            ``mood_set``, of numbers and ordered classes ``stars_low`` and ``stars_high``; with
            ``abstain`` ``mood_abstain``: "unsure", "out of scope" or empty.

        Raises:
            UsageError: no column fits, a wanted task doesn't exist or reads something else, or an
                option of decoding is out of range.
        """
        from lightning_modules.trust.doubts import DoubtOptions  # imports torch
        from pipeline.prediction.decoding import checked_decoding
        from pipeline.prediction.predict_frame import predict_frame

        self._predictor.write_with(checked_decoding(decoding or {}))
        unknown = [name for name in abstain or {} if name not in ABSTAIN_WORDS]
        if unknown:
            raise UsageError(f"abstain takes {', '.join(ABSTAIN_WORDS)}, got {unknown[0]}")
        doubt = DoubtOptions(coverage, per_class, parts=parts, dropout=dropout, **(abstain or {}))
        return predict_frame(self._predictor, rows, inputs or {}, tasks, batch_size, doubt)

    def explain(
        self,
        rows: Rows,
        tasks: Sequence[str] | None = None,
        **options: Any,
    ) -> Explanations:
        """Say what counts in the model's answers for rows; see ``po.explain``."""
        return explain(self, rows, tasks, **options)

    def predict_rows(
        self,
        columns: Mapping[str, Sequence[Any]],
        tasks: Sequence[str] | None = None,
        batch_size: int = 256,
    ) -> Predictions:
        """Answer raw values, with everything that a task says of them.

        Args:
            columns: {modality: N values, None where a row has none}: texts or pairs of them; images
                and sounds as arrays, paths or contents of files, sounds also as (samples, rate).
            tasks: the tasks wanted; None: all.
            batch_size: rows at a time, >= 1.

        Returns:
            ``answers`` {task: N answers such as {"label": "glad", "probability": 0.9}, None where a
            row lacks what the task reads} and ``errors`` {row: why it can't be read}.

        Raises:
            UsageError: the columns have different lengths, or a task or modality isn't known.
        """
        return self._predictor.predict(columns, tasks, batch_size)


def merge(
    models: Mapping[str, str | Path | Run | Model] | Sequence[str | Path | Run | Model],
    method: str | MergeMethod | Recipe = "average",
    output: str | Path | None = None,
    *,
    base: str | Path | Run | Model | None = None,
    overrides: Sequence[str] = (),
    uri: str = DATABASE,
    quiet: bool = False,
) -> Model:
    """Make one model of several as ``pollinate merge`` does, and score it beside them.

    Args:
        models: what ``po.load`` takes, one or more; a dict names them in messages and scores.
        method: ``po.merging.Average(weights=[1, 2])``, or the name of a shipped option.
        output: run folder of the result, new or empty; ``po.Run(output)`` has its scores. None:
            runs/<time>-merge.
        base: the model from which all of them were trained on, for methods that need it.
        overrides: of the command: ``["evaluate=false"]`` loads no data unless the method does.
        uri: MLflow's address, where run ids are looked up.
        quiet: whether nothing is printed but warnings.

    Raises:
        UsageError: the models don't fit together, or not to the method.
        PollinateError: a model can't be read.

    Examples:
        >>> import pollinate as po
        >>> models = {"a": "runs/first", "b": "runs/first"}  # runs of the same data
        >>> method = po.merging.Average(weights=[1, 3])
        >>> both = po.merge(models, method, overrides=["tracking=none"], quiet=True)
        >>> list(both.tasks)
        ['mood', 'stars']
    """
    named = (
        {name: str(checkpoint_of(what, uri)) for name, what in models.items()}
        if isinstance(models, Mapping)
        else [str(checkpoint_of(what, uri)) for what in models]
    )
    folder = Path(output).expanduser() if output is not None else new_run_folder("merge", None).path
    words = [
        *method_overrides(method),
        *overrides_of(models=named, output=folder, uri=uri),
        *([] if base is None else [override("base", checkpoint_of(base, uri))]),
        *overrides,
    ]
    found = merge_command.call(words, quiet=quiet)
    return load(found.folder.path, allow_targets=own_packages(overrides))


def method_overrides(method: str | MergeMethod | Recipe) -> list[str]:
    if isinstance(method, str):
        return [override("method", method)]
    recipe = method if isinstance(method, Recipe) else getattr(method, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise UsageError(
            f"method must be a class of po.merging or the name of an option, got {method!r}"
        )
    return ["~method", override("method", recipe.node())]


def evaluate(
    what: str | Path | Run | Model,
    split: str = "test",
    overrides: Sequence[str] = (),
    *,
    uri: str = DATABASE,
    quiet: bool = False,
) -> Scores:
    """Measure a model on one split of the data that it was trained on, as at the end of training.

    The scores are also written to evaluation-<split>.json in the run folder.

    Args:
        what: as for ``po.load``.
        split: train, valid or test.
        overrides: of ``pollinate evaluate``: ``["batch_size=64"]``.
        uri: MLflow's address, where run ids are looked up.
        quiet: whether nothing is printed but warnings.

    Returns:
        {task: {metric: value}} of the tasks that have labelled rows there.

    Raises:
        UsageError: there is no such split, or the results have no place: ``run_dir=PATH``.
        PollinateError: the model doesn't know its data, or they have changed.

    Examples:
        >>> import pollinate as po
        >>> scores = po.evaluate("runs/first", "valid", quiet=True)
        >>> scores["mood"] == po.Run("runs/first").valid_scores["mood"]
        True
    """
    words = overrides_of(checkpoint=checkpoint_of(what, uri), split=split, uri=uri)
    return evaluate_command.call([*words, *overrides], quiet=quiet).evaluation.scores


def calibrate(
    what: str | Path | Run | Model,
    overrides: Sequence[str] = (),
    *,
    uri: str = DATABASE,
    quiet: bool = False,
) -> dict[str, dict[str, Any]]:
    """Calibrate a model on the validation rows of its data, and write that into its checkpoint.

    A run does so by itself; this is for models from before, merged ones, and those of a Trainer of
    one's own that were trained on a data file.

    Args:
        what: as for ``po.load``.
        overrides: of ``pollinate calibrate``: ``["coverage=0.9", "output=calibrated.ckpt"]``.
        uri: MLflow's address, where run ids are looked up.
        quiet: whether nothing is printed but warnings.

    Returns:
        {task: {"calibrator": its name, "ece_before": error of probabilities, "ece": after, ...}},
        measured on test rows.

    Raises:
        PollinateError: the model doesn't know its data, or nothing of it can be calibrated.

    Examples:
        >>> import pollinate as po
        >>> found = po.calibrate("runs/first", ["output=calibrated.ckpt"], quiet=True)
        >>> found["mood"]["calibrator"] in ("temperature", "vector")
        True
        >>> model = po.load("calibrated.ckpt")
        >>> model.predict({"text": ["good"]}, coverage=0.8).columns.tolist()[:3]
        ['mood', 'mood_probability', 'mood_set']
    """
    words = overrides_of(checkpoint=checkpoint_of(what, uri), uri=uri)
    return calibrate_command.call([*words, *overrides], quiet=quiet).calibration.summary()


def export(
    what: str | Path | Run | Model,
    output: str | Path,
    *,
    task: str | None = None,
    modality: str | None = None,
    merge: bool = False,
    overrides: Sequence[str] = (),
    uri: str = DATABASE,
    quiet: bool = False,
) -> Path:
    """Write an encoder's adapters for other libraries, or the encoder with them in its weights.

    Args:
        what: as for ``po.load``; an encoder of its must have adapters.
        output: a folder, new or empty.
        task: whose adapters, where each task has its own.
        modality: whose encoder, where several have adapters.
        merge: whether the adapters are added to the encoder's weights.
        overrides: of ``pollinate export``.
        uri: MLflow's address, where run ids are looked up.
        quiet: whether nothing is printed but warnings.

    Returns:
        The folder.

    Raises:
        UsageError: no encoder has adapters, or it isn't clear which are meant.

    Examples:
        >>> import pollinate as po
        >>> tune = po.tuning.LoRA()
        >>> encoder = po.encoders.TransformersText(model="text_model", weights=False, tune=tune)
        >>> model = po.MultiTaskModule(data, encoders={"text": encoder})
        >>> trainer.fit(model, data)
        >>> trainer.save_checkpoint("adapted.ckpt")
        >>> folder = po.export("adapted.ckpt", "adapter", quiet=True)
        >>> sorted(file.name for file in folder.glob("adapter_*"))  # and its tokenizer
        ['adapter_config.json', 'adapter_model.safetensors']
    """
    checkpoint = checkpoint_of(what, uri)
    chosen = overrides_of(output=output, task=task, modality=modality, merge=merge, uri=uri)
    words = [override("checkpoint", checkpoint), *chosen, *overrides]
    return export_command.call(words, quiet=quiet).folder


def explain(
    what: str | Path | Run | Model,
    rows: Rows,
    tasks: Sequence[str] | None = None,
    *,
    other: str | Path | Run | Model | None = None,
    answers: Mapping[str, str | int] | None = None,
    inputs: Mapping[str, InputColumns] | None = None,
    most: int = 100,
    steps: int = 12,
    examples: int = 3,
    checks: int = 12,
    batch_size: int = 64,
    seed: int = 0,
    uri: str = DATABASE,
    allow_targets: Sequence[str] = (),
    quiet: bool = False,
) -> Explanations:
    """Say which words, pixels and sounds count in a model's answers, and whether to believe it.

    Args:
        what: as for ``po.load``.
        rows: as for ``Model.predict``; or the path of a file, as ``pollinate explain`` takes it.
        tasks: those that are explained; None: all that the rows suffice for and that can be.
        other: a second model, whose explanations of the same answers are compared.
        answers: {task: the answer that is explained}, of a task that labels words a word's number,
            from 1; else what the model answers.
        inputs: which column is which where the names differ from those in training.
        most: rows that are explained, the first, >= 1.
        steps: points between nothing and a row, >= 1; up to 256 where they don't suffice.
        examples: nearest training rows beside each row, >= 0.
        checks: rows of each task on which the explanations are checked, >= 0.
        batch_size: points that go through the network together, >= 1.
        seed: of the checks' rows and random orders.
        uri: MLflow's address, where run ids are looked up.
        allow_targets: packages of your own whose classes the checkpoints may name.
        quiet: whether no progress is shown.

    Raises:
        UsageError: captum isn't installed, or no task can be explained.
        PollinateError: the model or the rows can't be read.

    Examples:
        >>> import pollinate as po
        >>> why = po.explain("runs/first", {"text": ["good good tea"]}, ["mood"], quiet=True)
        >>> one = why.answers.iloc[0]
        >>> total = why.words.adds.sum()
        >>> bool(abs(one.score - one.score_of_nothing - total) < 0.05)
        True
    """
    # these import torch
    from pipeline.explanation.explain_rows import (
        ExplainedModel,
        ExplainOptions,
        explain_source,
        open_rows,
    )
    from pipeline.prediction.inputs import PYTHON
    from pipeline.prediction.predict_frame import FrameRows
    from pollinate.console import is_quiet, new_console
    from pollinate.requirements import require

    require("captum", "explain")
    for name, value, low in (
        ("most", most, 1),
        ("steps", steps, 1),
        ("batch_size", batch_size, 1),
        ("examples", examples, 0),
        ("checks", checks, 0),
    ):
        if value < low:
            raise UsageError(f"{name} must be >= {low}, got {value}")
    options = ExplainOptions(
        tasks,
        {task: str(answer) for task, answer in (answers or {}).items()},
        inputs or {},
        most,
        steps,
        examples,
        checks,
        seed,
        batch_size,
    )
    found = [
        ExplainedModel(model.checkpoint, model._predictor, allow_targets)
        for model in (
            load(one, uri=uri, allow_targets=allow_targets) for one in (what, other) if one
        )
    ]
    predictor = found[0].predictor
    if isinstance(rows, str | Path):
        source = open_rows(predictor, Path(rows).expanduser(), options).rows
    else:
        source = FrameRows(rows)
        source.empty = predictor.empty_words
    silence = is_quiet.set(quiet)
    try:
        findings = explain_source(found[0], source, options, PYTHON, new_console(), *found[1:])
    finally:
        is_quiet.reset(silence)
    return Explanations(findings)
