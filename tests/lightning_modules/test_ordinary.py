"""The module in anyone's Trainer: stock loaders, callbacks, loggers, precision and strategies."""

from __future__ import annotations

import csv
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import MixedBatch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules import batch_reader
from lightning_modules.module import MultiTaskModule
from lightning_modules.tasks.classification import Classification
from lightning_modules.tuning.gradual import Gradual
from pollinate.errors import UsageError
from tests.processes import alone_and_both
from tests.tiny import multitask, ready

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:.*the hooks will not be called on every batch"),
]
Item = dict[str, dict[str, Tensor]]


class Rows(Dataset[Item]):
    """Rows of one of the tiny data sets, as someone else's Dataset yields them.

    Args:
        name: of the data set.
        rows: their number.
        missing: the rows without a label.
    """

    def __init__(self, name: str, rows: int = 16, missing: Collection[int] = ()) -> None:
        draw = torch.Generator().manual_seed(len(name))
        if name == "notes":
            self.modality, self.inputs = "text", torch.randint(1, 40, (rows, 6), generator=draw)
        else:
            self.modality = "image"
            self.inputs = torch.rand(rows, 1, 8, 8, generator=draw)
        self.name = name
        self.targets = torch.tensor([-1 if row in missing else row % 2 for row in range(rows)])

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> Item:
        return {
            "inputs": {self.modality: self.inputs[row]},
            "targets": {self.name: self.targets[row]},
        }


def loaders(batch_size: int = 4, rows: int = 16) -> dict[str, DataLoader[Item]]:
    """Stock loaders, one for each data set."""
    return {n: DataLoader(Rows(n, rows), batch_size) for n in ("notes", "shapes")}


def batches(rows: int = 4) -> dict[str, Item]:
    """One batch, as a dictionary of loaders yields it."""
    return {name: next(iter(loader)) for name, loader in loaders(rows).items()}


@pytest.fixture(scope="module")
def data() -> MixedDataModule:
    return ready(dropout=0.0)


@pytest.fixture
def module(data: MixedDataModule) -> MultiTaskModule:
    return multitask(data)


def stock(folder: Path, **options: Any) -> Trainer:
    """A stock trainer of a few steps."""
    options = {"max_epochs": 2, "logger": False, "enable_checkpointing": False} | options
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"log_every_n_steps": 1} | options,
    )


def test_an_encoder_thaws_by_the_step(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    module.network.tunings["text"] = Gradual(every=2, first=0)
    weights = list(module.network.encoder("text").tuned_part().parameters())
    before = [weight.detach().clone() for weight in weights]
    moved = []

    class Watch(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            pairs = zip(weights, before, strict=True)
            moved.append(any(not torch.equal(weight, old) for weight, old in pairs))

    stock(tmp_path, callbacks=[Watch()], limit_train_batches=3, max_epochs=1).fit(module, data)
    assert moved == [False, False, True]


def test_checkpoint_and_early_stopping_follow_the_score(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    keep = ModelCheckpoint(tmp_path, monitor="valid/score", mode="max", filename="{epoch}-{step}")
    stop = EarlyStopping("valid/score", mode="max", patience=1, min_delta=2.0)
    trainer = stock(tmp_path, callbacks=[keep, stop], enable_checkpointing=True, max_epochs=9)
    trainer.fit(module, datamodule=data)
    assert trainer.current_epoch == 2  # no score rises by 2
    assert keep.best_model_score is not None
    best = Path(keep.best_model_path)
    assert best.name in ("epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt")
    (found,) = trainer.test(module, datamodule=data, ckpt_path=str(best), verbose=False)
    assert found["test/score"] == pytest.approx(
        sum(own["accuracy"] for own in module.results["test"].values()) / 2
    )


def test_a_checkpoint_s_name_has_its_own_step(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    keep = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    trainer = stock(tmp_path, callbacks=[keep], enable_checkpointing=True, log_every_n_steps=2)
    trainer.fit(module, datamodule=data)
    names = {path.name for path in tmp_path.glob("*.ckpt")}
    assert names == {"epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt"}


def test_a_csv_logger_has_each_metric_once_at_its_step(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    trainer = stock(tmp_path, logger=CSVLogger(tmp_path), log_every_n_steps=2)
    trainer.fit(module, datamodule=data)
    (file,) = tmp_path.rglob("metrics.csv")
    lines = list(csv.DictReader(file.read_text().splitlines()))

    def steps(name: str) -> list[int]:
        return [int(line["step"]) for line in lines if line[name]]

    assert steps("train/notes/loss") == steps("lr/all") == [2, 4, 6, 8]
    assert steps("valid/score") == steps("train/notes/accuracy") == [4, 8]


def test_a_tensorboard_logger_gets_the_metrics(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path)
    stock(tmp_path, logger=logger).fit(module, datamodule=data)
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_learning_rates_are_monitored(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    monitor = LearningRateMonitor("step")
    logger = CSVLogger(tmp_path)
    stock(tmp_path, callbacks=[monitor], logger=logger).fit(module, datamodule=data)
    assert set(monitor.lrs) == {"lr-SGD/pg1", "lr-SGD/pg2"}  # without and with weight decay


def test_the_learning_rate_finder_sets_it(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    finder = LearningRateFinder(1e-4, 1.0, num_training_steps=16, early_stop_threshold=None)
    trainer = stock(tmp_path, callbacks=[finder], enable_checkpointing=True, max_epochs=4)
    trainer.fit(module, datamodule=data)
    assert finder.optimal_lr is not None
    assert module.lr == finder.optimal_lr.suggestion() != 0.1
    assert trainer.optimizers[0].param_groups[0]["lr"] == module.lr
    assert trainer.global_step == 16
    assert module.progress.rows == {"notes": 64, "shapes": 64}  # the search's rows aren't counted


def test_accumulation_and_clipping(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    change = GradientAccumulationScheduler({0: 4, 1: 2})
    trainer = stock(tmp_path, callbacks=[change], gradient_clip_val=0.1)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 1 + 2
    assert trainer.callback_metrics["rows/notes"] == 8 * 4
    twice = stock(tmp_path, accumulate_grad_batches=2, gradient_clip_val=1.0)
    twice.fit(multitask(data), datamodule=data)
    assert twice.global_step == 4


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_a_fused_step_is_clipped_in_bfloat16(
    algorithm: str, data: MixedDataModule, tmp_path: Path
) -> None:
    """A step of gradient descent is lr times the gradient that clipping leaves."""
    fused = partial(torch.optim.SGD, fused=True)
    module = multitask(data, optimizer=fused)
    before = {name: one.detach().clone() for name, one in module.network.named_parameters()}
    options = {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": algorithm}
    stock(tmp_path, precision="bf16-mixed", max_steps=1, **options).fit(module, datamodule=data)
    moved = [(one - before[name]).flatten() for name, one in module.network.named_parameters()]
    order = 2.0 if algorithm == "norm" else torch.inf
    assert torch.cat(moved).norm(order).item() == pytest.approx(0.1 * 1e-3, rel=0.02)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precision(
    precision: Any, module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    trainer = stock(tmp_path, precision=precision)
    trainer.fit(module, train_dataloaders=loaders(), val_dataloaders=loaders())
    expected = torch.float64 if precision == "64-true" else torch.float32
    assert next(module.network.parameters()).dtype == expected
    assert torch.isfinite(trainer.callback_metrics["train/notes/loss"])
    trainer.predict(module, data.test_dataloader())


def test_forward_and_predict(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    outputs = module(batches())
    assert {task: tuple(one.shape) for task, one in outputs.items()} == {
        "notes": (4, 2),
        "shapes": (4, 3),
    }
    only = module({"shapes": {"inputs": {"image": torch.rand(5, 1, 8, 8)}}})
    assert only.keys() == {"shapes"}
    found = stock(tmp_path).predict(module, data.evaluation_loader("test"))
    assert found is not None
    answers = [answer for part in found for answer in part.get("notes", ())]  # type: ignore[union-attr]
    assert len(answers) == 10
    assert {answer["label"] for answer in answers} <= {"no", "yes"}


def test_validate_and_test_alone(
    module: MultiTaskModule, data: MixedDataModule, tmp_path: Path
) -> None:
    trainer = stock(tmp_path)
    (valid,) = trainer.validate(module, datamodule=data, verbose=False)
    test, _ = trainer.test(module, loaders(), verbose=False)  # one after the other
    assert valid.keys() >= {"valid/score", "valid/notes/accuracy"}
    assert test.keys() >= {"test/score", "test/shapes/loss"}
    assert module.confusion["test"]["shapes"].sum() == 16


class Steps:
    """Notes what a module's steps were given."""

    def __init__(self, module: MultiTaskModule) -> None:
        self.seen: list[dict[str, int]] = []
        inner = module._objective

        def noted(batch: MixedBatch, number: int) -> Tensor:
            self.seen.append(dict(batch.labelled))
            return inner(batch, number)

        module._objective = noted  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("min_size", [(4, 4)] * 2),
        ("max_size", [(4, 4)] * 2 + [(4, 0)] * 2),
        ("max_size_cycle", [(4, 4)] * 4),
    ],
)
def test_combined_loaders(
    mode: Any, expected: list[tuple[int, int]], module: MultiTaskModule, tmp_path: Path
) -> None:
    steps = Steps(module)
    parts = {"notes": loaders()["notes"], "shapes": loaders(rows=8)["shapes"]}
    stock(tmp_path, max_epochs=1).fit(module, CombinedLoader(parts, mode))
    assert [(seen["notes"], seen.get("shapes", 0)) for seen in steps.seen] == expected


def test_a_list_of_loaders_and_batches_that_are_made_by_hand(
    module: MultiTaskModule, tmp_path: Path
) -> None:
    def named(rows: list[Item]) -> dict[str, Any]:
        batch = torch.utils.data.default_collate(rows)
        return {next(iter(batch["targets"])): batch}

    def mixed(rows: list[Item]) -> MixedBatch:
        return MixedBatch.of(named(rows))

    steps = Steps(module)
    parts = [
        DataLoader(Rows("notes"), 4, collate_fn=named),
        DataLoader(Rows("shapes"), 4, collate_fn=mixed),
    ]
    stock(tmp_path, max_epochs=1).fit(module, parts)
    assert steps.seen == [{"notes": 4, "shapes": 4}] * 4
    for found, _, _ in CombinedLoader(loaders(), "min_size"):  # in a loop of one's own
        assert module((found, 0, 0)).keys() == {"notes", "shapes"}


def test_rows_of_one_data_set_need_no_name(module: MultiTaskModule, tmp_path: Path) -> None:
    steps = Steps(module)
    stock(tmp_path, max_epochs=1).fit(module, loaders()["shapes"])
    assert steps.seen == [{"shapes": 4}] * 4


def test_a_step_is_that_of_the_data_module(data: MixedDataModule, tmp_path: Path) -> None:
    """Plain tensors train as the same rows in a batch of the data module do."""
    own = next(iter(data.train_dataloader()))
    plain = {
        name: {
            "inputs": one.inputs,
            "targets": {t: y.where(one.present[t], -1) for t, y in one.targets.items()},
        }
        for name, one in own.batches.items()
    }
    losses = []
    for given in (own, plain):
        module = multitask(data)
        module._trainer = stock(tmp_path)
        losses.append(module.training_step(given, 0).item())
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_two_processes_of_stock_ddp_train_as_one_does(tmp_path: Path) -> None:
    """Also where a step has no label of a task, and where the processes have not as many."""
    names = ["ddp", "ddp_find_unused_parameters_true", "ddp of the data module"]
    one, two = alone_and_both("tests.ordinary_processes", names, tmp_path)
    for name in names:
        expected, found = (torch.load(folder / f"{name}.pt") for folder in (one, two))
        assert found["rows"] == expected["rows"]
        assert found["valid"] == pytest.approx(expected["valid"], abs=1e-5)
        for key, weight in expected["weights"].items():
            assert torch.allclose(weight, found["weights"][key], rtol=0, atol=1e-6), (name, key)


def test_all_processes_must_have_rows_of_a_data_set(
    module: MultiTaskModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_reader, "is_distributed", lambda: True)
    monkeypatch.setattr(batch_reader.distributed, "get_world_size", lambda: 2)
    other = torch.tensor([3, 0, 4, 0, 1, 0])  # labels of both tasks, rows, whether there are some
    monkeypatch.setattr(batch_reader, "all_reduce_sum", lambda own: own + other)
    read = module.reader.add_up_counts(module.reader.read({"notes": NOTES}))
    assert (read.labelled, read.sizes) == ({"notes": 7, "shapes": 0}, {"notes": 8, "shapes": 0})
    with pytest.raises(UsageError, match="got some of shapes in 1 of 2; let every process"):
        module.reader.add_up_counts(module.reader.read({"notes": NOTES, "shapes": SHAPES}))


LABELS = torch.tensor([0, 1, 1, 0])
NOTES = {"inputs": {"text": torch.ones(4, 6, dtype=torch.int64)}, "targets": {"notes": LABELS}}
SHAPES = {"inputs": {"image": torch.rand(4, 1, 8, 8)}, "targets": {"shapes": LABELS}}
BAD: dict[str, tuple[Any, str]] = {
    "a list of tensors": (
        [torch.rand(4, 3), LABELS],
        r"must be .*MixedBatch.of.* got list of a tensor \(4, 3\) of float32",
    ),
    "flat columns": (
        {"text": torch.ones(4, 6), "stars": LABELS},
        r"got \{'text', 'stars'\} with a tensor",
    ),
    "a key that isn't one": (
        {"notes": {**NOTES, "target": LABELS}},
        "key 'target'; did you mean targets",
    ),
    "texts": (
        {"notes": {"inputs": {"text": ["a", "b"]}}},
        "inputs of text must be a tensor, got list of str 'a'.*token ids",
    ),
    "a data set that isn't one": (
        {"note": NOTES},
        "rows of 'note', which no task reads; did you mean notes",
    ),
    "no data set's name": (
        {"inputs": NOTES["inputs"]},
        "must say whose rows it has.* notes, shapes",
    ),
    "a task that isn't one": (
        {"notes": {**NOTES, "targets": {"tone": LABELS}}},
        "targets of 'tone', which is no task of the model; tasks: notes, shapes",
    ),
    "another data set's task": (
        {"notes": {**NOTES, "targets": {"shapes": LABELS}}},
        "targets of shapes, which reads shapes",
    ),
    "a modality that isn't one": (
        {"notes": {**NOTES, "inputs": {"txt": torch.ones(4, 6)}}},
        "modality 'txt', for which the model has no encoder; did you mean text",
    ),
    "too few targets": (
        {"notes": {**NOTES, "targets": {"notes": LABELS[:3]}}},
        "must have one number of rows, got inputs of text: 4, targets of notes: 3",
    ),
    "targets of another type": (
        {"notes": {**NOTES, "targets": {"notes": LABELS / 2}}},
        r"must be class numbers \(N,\), got a tensor \(4,\) of float32",
    ),
    "targets of another shape": (
        {"notes": {**NOTES, "targets": {"notes": LABELS[:, None]}}},
        r"must be class numbers \(N,\), got a tensor \(4, 1\) of int64",
    ),
    "a class too many": (
        {"notes": {**NOTES, "targets": {"notes": LABELS + 1}}},
        "smaller than 2, got 2; check the task's classes",
    ),
    "inputs that an encoder can't take": (
        {"shapes": {**SHAPES, "inputs": {"image": torch.rand(4, 5)}}},
        r"can't take the loader's first batch.* shapes: image is a tensor \(4, 5\) of float32",
    ),
    "rows twice": ([{"notes": NOTES}, {"notes": NOTES}], "notes twice; concatenate"),
    "a value": (3.0, "must be .* got float '3.0'"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_a_batch_that_the_model_cannot_read(
    name: str, stage: str, module: MultiTaskModule, tmp_path: Path
) -> None:
    given, message = BAD[name]
    loader: Any = DataLoader([given], batch_size=None)  # type: ignore[arg-type]  # a list has rows
    with pytest.raises(UsageError, match=message):
        getattr(stock(tmp_path), stage)(module, loader)


def test_a_model_s_own_error_in_a_later_step_stays_what_it_is(module: MultiTaskModule) -> None:
    module.validation_step({"notes": NOTES}, 0)
    with pytest.raises(IndexError, match="Dimension"):
        module.validation_step({"shapes": {**SHAPES, "inputs": {"image": torch.rand(4, 5)}}}, 0)


def test_a_model_of_plain_modules_trains_on_plain_tensors(tmp_path: Path) -> None:
    """No data module: classes and encoders are given, rows come as tensors."""
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))
    module = MultiTaskModule(
        tasks={"shapes": Classification(classes=2)}, encoders={"image": encoder}, dim=16, lr=1e-2
    )
    rows = loaders()["shapes"]
    keep = ModelCheckpoint(tmp_path, monitor="valid/score", mode="max")
    trainer = stock(tmp_path, callbacks=[keep], enable_checkpointing=True)
    trainer.fit(module, rows, rows)
    batch = MixedBatch.of(inputs={"image": torch.rand(3, 1, 8, 8)})
    assert module(batch)["shapes"].shape == (3, 2)
    assert keep.best_model_score is not None
