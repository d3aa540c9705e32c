"""The wide path: a linear model beside the network, fitted, held out, kept and answered with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import pollinate as po
from datamodules.batch import Batch
from datamodules.cache import Cache
from datamodules.terms import TERMS, TermWeights, text_terms
from lightning_modules.distributed import fixed_buffers, moving_buffers
from lightning_modules.module import require_fit
from lightning_modules.wide_fit import (
    best_offset,
    best_scale,
    cache_key,
    held_out_columns,
    linear_model,
    ridge,
)
from lightning_modules.wide_path import FITTED, WidePath
from pollinate.errors import PollinateError, UsageError
from tests.small_shop import reviews

WIDE = {"text": {"wide": True, "vocab_size": 300, "max_length": 16}}


def shop(tasks: dict[str, Any], count: int = 240, **columns: Any) -> po.MixedDataModule:
    rows = reviews(count).assign(**columns)
    split = {"train": 0.6, "valid": 0.2, "test": 0.2}
    data = po.Dataset(rows, inputs={"text": "review"}, split=split)
    return po.MixedDataModule({"reviews": data}, tasks=tasks, modalities=WIDE)


def mood() -> po.tasks.Classification:
    return po.tasks.Classification("reviews", target="mood")


@pytest.fixture(scope="module")
def module() -> tuple[po.MixedDataModule, po.MultiTaskModule]:
    data = shop({"mood": mood(), "stars": po.tasks.Regression("reviews", target="stars")})
    return data, po.MultiTaskModule(data, encoders={"text": po.encoders.Bag(width=8)}, dim=8)


def accuracy(module: po.MultiTaskModule, data: po.MixedDataModule, split: str) -> float:
    """Return the share of rows that the wide path alone gets right."""
    part = data.parts[split]["reviews"]
    batch = part.batch(np.arange(part.size))
    output = module.network.wide_path("mood")([batch])
    return (output.argmax(1) == batch.targets["mood"]).double().mean().item()


def test_it_is_a_linear_model_from_the_start(module: Any) -> None:
    data, model = module

    assert accuracy(model, data, "test") > 0.95
    assert all(not own.requires_grad for own in model.network.wide.parameters())


def test_training_rows_get_columns_of_models_without_them(module: Any) -> None:
    data, model = module
    part, path = data.parts["train"]["reviews"], model.network.wide_path("mood")
    batch = part.batch(np.arange(5))

    assert not batch.terms
    assert torch.equal(path.read(batch), part.held_out["mood"][:5])
    counted = part.stores["text"].terms(part.rows[:5])
    assert not torch.allclose(path.columns(counted), path.read(batch), atol=1e-3)


def test_labels_that_are_noise_are_not_learnt_by_heart() -> None:
    draw = np.random.default_rng(0)
    data = shop({"mood": mood()}, mood=draw.choice(["a", "b"], 240))
    model = po.MultiTaskModule(data, encoders={"text": po.encoders.Bag(width=8)}, dim=8)

    assert accuracy(model, data, "train") < 0.65
    assert float(model.network.wide_path("mood").scale) < 1.0


def test_columns_are_tf_idf_times_weights(module: Any) -> None:
    data, model = module
    path, part = model.network.wide_path("mood"), data.parts["test"]["reviews"]
    store = part.stores["text"]
    found = path.columns(store.terms(part.rows))

    train = data.parts["train"]["reviews"]
    terms = TermWeights(counts_of(store, train.rows))
    wanted = terms.of(counts_of(store, part.rows)) @ path.table.numpy() + path.bias.numpy()
    assert np.allclose(found.numpy(), wanted, atol=1e-5)


def counts_of(store: Any, rows: np.ndarray) -> sparse.csr_matrix:
    found = sparse.lil_matrix((len(rows), TERMS), dtype=np.float32)
    for place, row in enumerate(rows):
        for number, count in store.counted[row]:
            found[place, number] = count
    return found.tocsr()


def test_a_row_without_text_is_answered_by_the_bias(module: Any) -> None:
    _, model = module
    path = model.network.wide_path("mood")
    index, has = torch.arange(3), {"text": torch.tensor([True, False, True])}
    counted = torch.tensor([[[5, 1]], [[7, 2]]], dtype=torch.int32)
    inputs = {"text": torch.ones(2, 1, dtype=torch.int64)}
    found = path.read(Batch(inputs, {}, {}, index, has, terms={"text": counted}))

    assert torch.equal(found[1], path.bias)
    assert torch.equal(path.read(Batch({}, {}, {}, index)), path.bias.expand(3, -1))
    none = Batch(
        {"text": torch.zeros(0, 1, dtype=torch.int64)}, {}, {}, index,
        {"text": torch.zeros(3, dtype=torch.bool)},
        terms={"text": torch.zeros(0, 0, 2, dtype=torch.int32)},
    )  # fmt: skip
    assert torch.equal(path.read(none), path.bias.expand(3, -1))
    with pytest.raises(UsageError, match="'wide': True"):
        path.read(Batch(inputs, {}, {}, index, has))


def test_checkpoint_and_prediction(module: Any, tmp_path: Path) -> None:
    data, model = module
    trainer = po_trainer(tmp_path)
    trainer.fit(model, data)
    scores = trainer.test(model, data, verbose=False)[0]
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    part = data.parts["test"]["reviews"]
    texts = [data.loaded["reviews"].inputs["text"][row] for row in part.rows]
    wanted = [data.loaded["reviews"].targets["mood"][row] for row in part.rows]

    found = po.load(tmp_path / "own.ckpt").predict(pd.DataFrame({"review": texts}))

    assert np.mean(found["mood"] == wanted) == pytest.approx(scores["test/mood/accuracy"])
    loaded = po.MultiTaskModule.load_from_checkpoint(tmp_path / "own.ckpt")
    assert torch.equal(
        loaded.network.wide_path("mood").table, model.network.wide_path("mood").table
    )


def po_trainer(folder: Path) -> Any:
    return lightning.Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def test_regression_is_in_the_targets_unit(module: Any) -> None:
    data, model = module
    part = data.parts["test"]["reviews"]
    batch = part.batch(np.arange(part.size))
    task = data.tasks["stars"]
    found = task.neutral + model.network.wide_path("stars")([batch])

    assert (found - batch.targets["stars"]).abs().mean() < 0.5 * task.std


@pytest.mark.parametrize(
    ("task", "target"),
    [
        (lambda: po.tasks.Ordinal("reviews", target="level", classes=["a", "b", "c"]), "level"),
        (lambda: po.tasks.Multilabel("reviews", target="flags"), "flags"),
    ],
)
def test_other_kinds_of_tasks(task: Any, target: str) -> None:
    rows = reviews(240)
    good = rows["mood"] == "glad"
    columns = {
        "level": np.where(rows["stars"] > 4, "c", np.where(good, "b", "a")),
        "flags": [["glad"] if own else ["sad", "low"] for own in good],
    }
    data = shop({"task": task()}, **{target: columns[target]})
    model = po.MultiTaskModule(data, encoders={"text": po.encoders.Bag(width=8)}, dim=8)
    own, part = data.tasks["task"], data.parts["test"]["reviews"]
    batch = part.batch(np.arange(part.size))
    metrics = own.metrics()
    metrics.update(
        own.metric_input(model.network.wide_path("task")([batch])), batch.targets["task"]
    )

    assert metrics.compute()[own.score] > 0.6


def test_what_has_no_path_says_why() -> None:
    data = shop({"mood": mood()}, count=40, mood=["a", "b", *[None] * 38])
    model = po.MultiTaskModule(data, encoders={"text": po.encoders.Bag(width=8)}, dim=8)

    assert any("task mood has no wide path: it has" in note for note in data.notes)
    part = data.parts["test"]["reviews"]
    assert float(model.network.wide_path("mood")([part.batch(np.arange(2))])) == 0


def test_rows_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_modules import wide_fit

    def again(*_: Any) -> Any:
        raise AssertionError("fitted again")

    tasks = {"mood": mood()}
    first = po.MultiTaskModule(shop(tasks), encoders={"text": po.encoders.Bag(width=8)}, dim=8)
    monkeypatch.setattr(wide_fit, "fit_task", again)
    data = shop({"mood": mood()})
    second = po.MultiTaskModule(data, encoders={"text": po.encoders.Bag(width=8)}, dim=8)

    assert torch.equal(
        first.network.wide_path("mood").table, second.network.wide_path("mood").table
    )
    assert data.parts["train"]["reviews"].held_out["mood"].shape == (144, 2)


def test_an_unfitted_path_takes_the_size_of_what_it_loads(module: Any) -> None:
    _, model = module
    fitted = model.network.wide_path("mood")
    fresh = WidePath("mood", fitted.to_output)
    assert not fresh.fitted
    fresh.load_state_dict(copy.deepcopy(fitted.state_dict()))

    assert fresh.fitted
    assert torch.equal(fresh.table, fitted.table)


def random_texts(count: int) -> sparse.csr_matrix:
    draw = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(60)])
    texts = [" ".join(draw.choice(words, 8)) for _ in range(count)]
    rows = [np.stack(pair) for pair in text_terms(texts)]
    starts = np.cumsum([0, *(row.shape[1] for row in rows)])
    numbers, counts = np.concatenate(rows, axis=1)
    return sparse.csr_matrix((counts.astype(np.float32), numbers, starts), (count, TERMS))


def test_ridge_is_scikit_learns() -> None:
    from sklearn.linear_model import Ridge

    terms = TermWeights(random_texts(80))
    columns = np.random.default_rng(1).normal(size=(80, 3)).astype(np.float32)
    table, bias = ridge(terms.values, columns - columns.mean(0), 0.5)
    wanted = Ridge(0.5, solver="svd").fit(terms.values.toarray(), columns - columns.mean(0))

    assert np.allclose(table, wanted.coef_.T, atol=2e-3)
    assert np.allclose(bias, wanted.intercept_, atol=2e-3)


def test_tf_idf_is_scikit_learns() -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    counts = random_texts(30)
    found = TermWeights(counts).of(counts)
    known = TermWeights(counts).numbers
    words = known < TERMS // 2
    wanted = TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, known[words]])

    assert np.allclose(found[:, : words.sum()].toarray(), wanted.toarray(), atol=1e-5)


def test_folds_dont_see_their_rows() -> None:
    values = TermWeights(random_texts(60)).values
    flags = np.random.default_rng(2).integers(0, 2, 60)
    columns = np.eye(2, dtype=np.float32)[flags]
    held = held_out_columns(values, columns, 1.0, True, 5)
    table, bias = linear_model(values, columns, 1.0, True)

    assert ((values @ table + bias).argmax(1) == flags).mean() > 0.9  # by heart
    assert 0.3 < (held.argmax(1) == flags).mean() < 0.7


def test_scale_is_where_the_loss_is_smallest() -> None:
    task = po.tasks.Classification("reviews", target="mood", classes=2)
    draw = np.random.default_rng(3)
    targets = torch.from_numpy(draw.integers(0, 2, 400))
    right = torch.from_numpy(draw.random(400) < 0.9)
    columns = torch.eye(2)[torch.where(right, targets, 1 - targets)]
    scale, loss = best_scale(task, task.linear_shift(columns.double()), targets)

    share = right.double().mean().item()
    hit, miss = share + (1 - share) / 400, 1 - share + share / 400  # and one more, turned round
    assert scale == pytest.approx(np.log(hit / miss), rel=0.02)  # the log odds
    wanted = -hit * np.log(hit / (hit + miss)) - miss * np.log(miss / (hit + miss))
    assert loss == pytest.approx(wanted, abs=1e-3)


def test_scale_ends_where_every_row_is_right() -> None:
    task = po.tasks.Classification("reviews", target="mood", classes=2)
    targets = torch.arange(400) % 2
    scale, _ = best_scale(task, torch.eye(2).double()[targets], targets)

    assert scale == pytest.approx(np.log(400), rel=0.05)  # as if one more were wrong
    same = torch.zeros(400, dtype=torch.int64)
    scale, _ = best_scale(task, torch.eye(2).double()[same], same)
    assert scale == pytest.approx(np.log(400), rel=0.05)


def test_offset_is_where_a_label_is_as_likely_as_not() -> None:
    task = po.tasks.Multilabel("reviews", target="flags", classes=3)
    draw = np.random.default_rng(5)
    columns = draw.uniform(-0.3, 0.7, (4000, 3)).astype(np.float32)
    applies = draw.random(columns.shape) < 1 / (1 + np.exp(-12 * (columns - 0.3)))
    targets = torch.from_numpy(applies.astype(np.float32))

    assert best_offset(task, columns, targets) == pytest.approx(0.5 - 0.3, abs=0.02)


def test_nothing_of_it_is_sent_between_processes(module: Any) -> None:
    _, model = module
    fitted = {f"network.wide.{task}.{name}" for task in ("mood", "stars") for name in FITTED}

    assert fixed_buffers(model) == fitted
    assert not fitted & moving_buffers(model).keys()
    assert not fitted & dict(model.named_parameters()).keys()
    assert fitted <= set(model._ddp_params_and_buffers_to_ignore)


def test_its_size_is_that_of_the_checkpoint(module: Any) -> None:
    _, model = module
    own, any_size = model.state_dict(), fixed_buffers(model)
    saved = {n: v[:0] if n.endswith("mood.idf") else v for n, v in own.items()}
    checkpoint = {"state_dict": saved, "pollinate": {"version": "0"}}

    require_fit(own, checkpoint, any_size)
    with pytest.raises(PollinateError, match=r"network.wide.mood.idf: \(0,\) saved"):
        require_fit(own, checkpoint)
    del saved["network.wide.mood.idf"]
    with pytest.raises(PollinateError, match="nothing saved"):
        require_fit(own, checkpoint, any_size)


def test_another_loss_is_another_fit(module: Any) -> None:
    data, _ = module
    keys = []
    for options in ({}, {"label_smoothing": 0.1}, {"focal": 1.0}, {}):
        task = po.tasks.Classification("reviews", target="mood", **options)
        task.use_datasets(["reviews"])
        task.load_state_dict(data.tasks["mood"].state_dict())
        keys.append(cache_key("mood", task, data))

    assert keys[0] == keys[3]
    assert len({str(key) for key in keys}) == 3


def test_rows_keep_their_terms_where_a_task_has_no_columns_of_its_own() -> None:
    rare = ["a", "b"] * 10 + [None] * 220
    tasks = {"mood": mood(), "rare": po.tasks.Classification("reviews", target="rare")}
    data = shop(tasks, rare=rare)
    po.MultiTaskModule(data, encoders={"text": po.encoders.Bag(width=8)}, dim=8)
    batch = data.parts["train"]["reviews"].batch(np.arange(3))

    assert batch.held_out.keys() == {"mood"}
    assert batch.terms["text"].shape[0] == 3


def test_a_damaged_fit_is_made_again_and_said(tmp_path: Path) -> None:
    def made() -> tuple[po.MixedDataModule, po.MultiTaskModule]:
        data = shop({"mood": mood()}, 60)
        data.policy.cache = Cache(tmp_path)
        return data, po.MultiTaskModule(data, encoders={"text": po.encoders.Bag(width=8)}, dim=8)

    _, first = made()
    (file,) = tmp_path.glob("wide/*/table.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    data, second = made()

    assert any("was damaged (table.npy was changed) and was made again" in n for n in data.notes)
    assert torch.equal(
        first.network.wide_path("mood").table, second.network.wide_path("mood").table
    )
