"""Distillation between language models: token by token, by what a teacher writes, on-policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

import pollinate as po
from datamodules.batch import MixedBatch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.divergences import generalized_divergence
from lightning_modules.encoders.language_model import DrawnTokens
from lightning_modules.module import MultiTaskModule
from lightning_modules.source_models import SourceModel
from lightning_modules.transfer.answer_teachers import likeliest, spread
from lightning_modules.transfer.gkd import GKD
from lightning_modules.transfer.hinton import Hinton
from lightning_modules.transfer.sequence_level import SequenceLevel
from pollinate.errors import PollinateError, UsageError
from tests.lightning_modules.test_module import as_rank
from tests.lightning_modules.transfer.helpers import first_batch, losses, set_up, step_of
from tests.models import LLAMA, gpt2, letters, llama, save
from tests.writers import chosen, labelled, teacher, turned, words_frame, writer

Run = tuple[MultiTaskModule, MixedDataModule]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return writer(tmp_path_factory.mktemp("student"), {"turned": turned()})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    return teacher(tmp_path_factory.mktemp("teacher"), {"turned": turned()})


def plain_logits(module: MultiTaskModule | SourceModel, prompt: Tensor, answer: Tensor) -> Tensor:
    """The logits (A, V) of an answer's tokens, of one row without padding."""
    owner = module.predictor() if isinstance(module, SourceModel) else module
    model = owner.network.language_model  # type: ignore[union-attr]  # a single network
    assert model.shift == 0
    ids = torch.cat([prompt[prompt != 0], answer[answer >= 0]])[None]
    found: Tensor = model.network.eval()(input_ids=ids).logits[0]
    return found[-1 - int((answer >= 0).sum()) : -1]


def by_hand(
    module: MultiTaskModule,
    source: SourceModel,
    batch: MixedBatch,
    divergence: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The mean over rows of the mean over an answer's tokens."""
    rows, found = batch.batches["words"], []
    answers, there = rows.shown("turned")
    for place in there.nonzero()[:, 0].tolist():
        one = [
            plain_logits(m, rows.prompts["turned"][place], answers[place]) for m in (module, source)
        ]
        found.append(divergence(one[0], one[1].detach()).mean())
    return torch.stack(found).mean()


@pytest.mark.parametrize(
    ("method", "divergence"),
    [
        (GKD("t"), partial(generalized_divergence, beta=0.5)),
        (
            GKD("t", beta=1.0, temperature=2.0),
            partial(generalized_divergence, beta=1.0, temperature=2.0),
        ),
        (
            Hinton("t", alpha=1.0, temperature=2.0),
            lambda s, t: 4 * generalized_divergence(s, t, 0.0, 2.0),
        ),
    ],
)
def test_the_loss_and_its_gradient_by_plain_transformers(
    run: Run, source: SourceModel, method: Any, divergence: Any
) -> None:
    module, data = run
    assert set_up(method, module, data, t=source)[0] == "turned: taught by t on words"
    module.eval()
    batch = first_batch(data)
    assert 0 < batch.labelled["turned"] < 8
    weight = module.network.language_model.network.lm_head.weight
    expected = by_hand(module, source, batch, divergence)
    (wanted,) = torch.autograd.grad(expected, weight)
    found = losses(method, module, batch).by_task["turned"]
    (slope,) = torch.autograd.grad(found, weight)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(slope, wanted, rtol=1e-4, atol=1e-6)
    assert all(w.grad is None for w in source.predictor().network.parameters())


def test_labels_keep_their_share(run: Run, source: SourceModel) -> None:
    module, data = run
    set_up(GKD("t", alpha=0.25), module, data, t=source)
    batch = first_batch(data)
    module.eval()
    alone = module.network_losses(batch)["turned"]
    apart = losses(GKD_of(module), module, batch).by_task["turned"] / 0.25
    as_rank(module).eval().training_step(batch, 0)
    assert module.losses["turned"].item() == pytest.approx((0.75 * alone + 0.25 * apart).item())


def GKD_of(module: MultiTaskModule) -> GKD:  # noqa: N802  # the method of a module
    assert isinstance(module.transfer, GKD)
    return module.transfer


def test_what_is_kept_is_exact_for_all_tokens(run: Run, source: SourceModel) -> None:
    module, data = run
    module.eval()
    batch, found = first_batch(data), {}
    for top_k in (None, 260, 500, 40):
        method = GKD("t", top_k=top_k, beta=0.3)
        said = set_up(method, module, data, t=source)
        found[top_k] = losses(method, module, batch).by_task["turned"].item()
        if top_k is not None:
            tokens = sum(len(w) + 1 for w in data.loaded["words"].table.columns["turned"] if w)
            assert said[1:] == [
                f"computing the {min(top_k, 260)} likeliest tokens of runs/a at {tokens} tokens of "
                "turned in words, once"
            ]
            assert set_up(GKD("t", top_k=top_k), module, data, t=source)[1:] == []  # from the cache
    assert found[260] == pytest.approx(found[None], abs=1e-6)
    assert found[500] == pytest.approx(found[None], abs=1e-6)
    assert found[40] != pytest.approx(found[None], abs=1e-4)


def test_the_rest_is_evenly_spread() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert spread(*likeliest(logits, 2), 4).exp().tolist() == pytest.approx([0.4, 0.3, 0.15, 0.15])
    assert spread(*likeliest(logits, 4), 4).exp().tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    several = torch.randn(3, 5, 9, generator=torch.Generator().manual_seed(0))
    found = spread(*likeliest(several, 3), 9)
    assert torch.allclose(found.logsumexp(-1), torch.zeros(3, 5), atol=1e-6)


def test_kept_outputs_are_of_labels_alone(run: Run, source: SourceModel) -> None:
    module, data = run
    method = GKD("t", top_k=5)
    set_up(method, module, data, t=source)
    batch = first_batch(data)
    batch.batches["words"].targets["turned"] = batch.batches["words"].targets["turned"].flip(0)
    with pytest.raises(UsageError, match="keeps what a teacher says of the labels"):
        losses(method, module, batch)


def test_several_teachers_are_averaged(run: Run, source: SourceModel, tmp_path: Path) -> None:
    module, data = run
    other = teacher(tmp_path, {"turned": turned()}, seed=2)
    method = GKD({"turned": [{"source": "t", "weight": 3}, "o"]})
    set_up(method, module, data, t=source, o=other)
    module.eval()
    batch = first_batch(data)
    distil = method.opened_teachers.by_task["turned"].distil_batch(step_of(module, batch))
    assert distil is not None
    rows, row = batch.batches["words"], int(batch.batches["words"].present["turned"].nonzero()[0])
    said = [
        plain_logits(m, rows.prompts["turned"][row], rows.targets["turned"][row]).softmax(-1)
        for m in (source, other)
    ]
    mean = distil.teacher[0, : len(said[0])].softmax(-1)
    torch.testing.assert_close(mean, 0.75 * said[0] + 0.25 * said[1], rtol=1e-3, atol=1e-6)


def test_a_language_model_that_no_run_trained(run: Run, tmp_path: Path) -> None:
    """A folder of transformers is asked with the task's own prompts."""
    module, data = run
    known = teacher(tmp_path, {"turned": turned()})
    model = known.predictor().single_network.language_model
    model.save(tmp_path / "saved", model.network.state_dict())
    plain = SourceModel(str(tmp_path / "saved"), "plain", {}, None, no_predictor)
    found = []
    for one in (known, plain):
        method = GKD("t")
        set_up(method, module.eval(), data, t=one)
        found.append(losses(method, module, first_batch(data)).by_task["turned"].item())
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    set_up(SequenceLevel("t"), *writer(tmp_path / "x", {"turned": turned()}), t=plain)


def no_predictor() -> Any:
    raise AssertionError("it has no run")


def test_vocabularies_of_another_size(tmp_path: Path, source: SourceModel) -> None:
    """Logits of ids that stand for no token are left out."""

    def wider(folder: Path) -> Path:
        found = llama(folder)
        text = (found / "config.json").read_text().replace("260", "272")
        (found / "config.json").write_text(text)
        return found

    module, data = writer(tmp_path, {"turned": turned()}, maker=wider)
    method = GKD("t")
    set_up(method, module.eval(), data, t=source)
    batch = first_batch(data)
    found = losses(method, module, batch).by_task["turned"].item()
    cut = by_hand(
        module, source, batch, lambda s, t: generalized_divergence(s[:, :260], t[:, :260], 0.5)
    )
    assert found == pytest.approx(cut.item(), rel=1e-5)


def other_letters(folder: Path) -> Path:
    """The same network, whose tokenizer has another order of letters."""
    core = letters("<pad>", "</s>", first=False)
    return save(folder, {**LLAMA, "eos_token_id": 257}, core, pad_token="<pad>", eos_token="</s>")


def test_teachers_that_do_not_fit(run: Run, tmp_path: Path, source: SourceModel) -> None:
    module, data = run
    other = teacher(tmp_path / "o", {"turned": turned()}, maker=other_letters)
    begins = teacher(tmp_path / "b", {"turned": turned(chat=False)})
    lacks = teacher(tmp_path / "l", {"first": turned()})
    labels = teacher(tmp_path / "c", {"turned": labelled()})
    for wrong, why in (
        (other, "must have the tokenizer of the encoder.*transfer=sequence_level"),
        (begins, "must begin answers as the task turned here does, got after a space there"),
        (lacks, "has no task 'turned' to teach turned"),
        (labels, "is classification, and turned here is generation.*transfer=sequence_level"),
    ):
        with pytest.raises(UsageError, match=why):
            set_up(GKD("t"), module, data, t=wrong)
    both = writer(tmp_path / "p", {"turned": turned(), "same": turned()})
    with pytest.raises(UsageError, match="neither teaches another nor learns"):
        set_up(GKD({"turned": "task:same"}), *both)


def test_choices_teach_classes(tmp_path: Path) -> None:
    """A teacher that answers in words, and a student with a head; their classes' orders differ."""
    module, data = writer(tmp_path / "s", {"first": labelled()})
    source = teacher(tmp_path / "t", {"first": chosen(choices=["cd", "ab"])})
    method = Hinton("t", alpha=1.0, temperature=1.0)
    said = set_up(method, module.eval(), data, t=source)
    assert said[0] == "first: taught by t on words"
    step = step_of(module, first_batch(data))
    distil = method.opened_teachers.by_task["first"].distil_batch(step)
    assert distil is not None
    words = [words_frame()["word"][row] for row in step.batch.batches["words"].index.tolist()]
    answers = source.predictor().predict({"prompt/first": words}, ["first"]).answers["first"]
    said_of = [[a["probabilities"][name] for name in ("ab", "cd")] for a in answers if a]
    assert distil.teacher.softmax(-1).tolist() == [pytest.approx(row, abs=1e-5) for row in said_of]
    free = teacher(tmp_path / "f", {"first": turned()})
    with pytest.raises(UsageError, match=r"let the teacher answer with the same classes: choices"):
        set_up(Hinton("t"), module, data, t=free)


def test_classes_teach_choices(tmp_path: Path) -> None:
    """A teacher with a head, whose classes stand in place of a writing student's labels."""
    module, data = writer(tmp_path / "s", {"first": chosen()})
    source = teacher(tmp_path / "t", {"first": labelled()})
    set_up(SequenceLevel("t"), module, data, t=source)
    words = words_frame()["word"].tolist()
    answers = source.predictor().predict({"text": words}, ["first"]).answers["first"]
    assert texts_of(data, "first") == [a["label"] for a in answers if a]
    assert len({a["label"] for a in answers if a}) == 2


@pytest.mark.parametrize(
    ("method", "options", "why"),
    [
        (GKD, {"beta": 1.5}, r"beta must be in \[0, 1\], got 1.5"),
        (GKD, {"on_policy": -0.1}, r"on_policy must be in \[0, 1\]"),
        (GKD, {"temperature": 0.0}, "temperature must be > 0"),
        (GKD, {"sampling": 0.0}, "sampling must be a temperature > 0"),
        (GKD, {"top_k": 0}, "top_k must be >= 1"),
        (Hinton, {"top_k": 0}, "top_k must be >= 1"),
        (SequenceLevel, {"alpha": 2}, r"alpha must be in \[0, 1\]"),
        (SequenceLevel, {"beams": 0}, "beams must be >= 1"),
    ],
)
def test_options_out_of_range(method: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        method("t", **options)


def test_streamed_rows(run: Run, source: SourceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = run
    monkeypatch.setattr(data.loaded["words"].table, "streamed", {"word": np.ones(24, bool)})
    for method, why in (
        (GKD("t", top_k=5), "set transfer.top_k=null"),
        (SequenceLevel("t"), "streaming=false"),
    ):
        with pytest.raises(UsageError, match=why):
            set_up(method, module, data, t=source)


def test_drawn_tokens_have_their_probabilities() -> None:
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0])
    draws = torch.arange(10_000).double()[:, None] / 10_000
    found = DrawnTokens(draws, temperature=2.0)(draws, logits.expand(10_000, 4)).argmax(dim=1)
    shares = found.bincount() / 10_000
    assert shares.tolist() == pytest.approx((logits / 2).softmax(0).tolist(), abs=2e-4)


def test_samples_depend_on_seed_step_and_row_alone(run: Run, source: SourceModel) -> None:
    module, data = run
    method = GKD("t", on_policy=1.0)
    set_up(method, module.train(), data, t=source)
    batch = first_batch(data)
    state = torch.get_rng_state()
    first, again, later = (
        method.change_batch(batch, module.network, step).batches["words"].answers["turned"]
        for step in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert torch.equal(state, torch.get_rng_state())
    assert all(part.training for part in module.network.modules())
    part = data.parts["train"]["words"]
    row = int(batch.batches["words"].index[2])
    alone = replace(batch, batches={"words": part.batch(np.array([row]))})
    own = method.change_batch(alone, module.network, 3).batches["words"].answers["turned"][0]
    assert torch.equal(own, first[2, : len(own)])
    assert (first[2, len(own) :] == -1).all()


def test_a_step_on_samples(run: Run, source: SourceModel) -> None:
    """All rows take part, labelled or not; labels have no loss; the numbers are by hand."""
    module, data = run
    method = GKD("t", on_policy=1.0, alpha=0.5, top_k=5)
    set_up(method, module.eval(), data, t=source)
    batch = first_batch(data)
    drawn = method.change_batch(batch, module.network, 0)
    assert drawn.labelled == {"turned": 0}
    assert bool(drawn.batches["words"].shown("turned")[1].all())
    ends = (drawn.batches["words"].answers["turned"] == 1).sum(dim=1)
    assert ends.max() <= 1
    expected = by_hand(module, source, drawn, partial(generalized_divergence, beta=0.5))
    as_rank(module).eval().training_step(batch, 0)
    assert module.losses["turned"].item() == pytest.approx(0.5 * expected.item(), rel=1e-5)
    assert batch.labelled["turned"] > 0
    assert not batch.batches["words"].answers  # what the loader gave is as it was


def test_about_so_many_steps_are_on_policy(run: Run, source: SourceModel) -> None:
    module, data = run
    method = GKD("t", on_policy=0.3)
    set_up(method, module, data, t=source)
    share = np.mean([method._draws("turned", step) for step in range(1000)])
    assert share == pytest.approx(0.3, abs=0.05)


def test_on_policy_needs_answers_in_words(tmp_path: Path) -> None:
    from tests.lightning_modules.transfer.helpers import deterministic_data, teacher_source
    from tests.tiny import multitask, task, texts

    data = deterministic_data({"notes": texts(16)}, {"kind": task("notes")}, tmp_path)
    with pytest.raises(UsageError, match="draws answers in words, and none of kind has"):
        set_up(GKD("t", on_policy=0.5), multitask(data), data, t=teacher_source(data))


def test_on_policy_needs_whole_models() -> None:
    strategy = ModelParallelStrategy.__new__(ModelParallelStrategy)
    trainer: Any = SimpleNamespace(strategy=strategy)
    GKD("t").attach(trainer)
    with pytest.raises(UsageError, match="needs the whole model in each process"):
        GKD("t", on_policy=0.1).attach(trainer)


def texts_of(data: MixedDataModule, task: str) -> list[str]:
    part = data.parts["train"]["words"]
    return [
        data.prompts[task].decode([n for n in row.tolist() if n >= 0]) for row in part.targets[task]
    ]


def test_a_teacher_writes_with_its_own_tokenizer(tmp_path: Path) -> None:
    module, data = writer(tmp_path / "s", {"turned": turned()})
    source = teacher(tmp_path / "t", {"turned": turned(max_answer=6)}, maker=gpt2)
    said = set_up(SequenceLevel("t"), module, data, t=source)
    assert said[:2] == [
        "turned: learns what t writes on words",
        "runs/a writes answers to 24 rows of words for turned, once",
    ]
    answers = (
        source.predictor()
        .predict({"prompt/turned": words_frame()["word"].tolist()}, ["turned"])
        .answers["turned"]
    )
    usable = [a["label"].strip() for a in answers if a is not None]
    assert bool(data.parts["train"]["words"].present["turned"].all()) == all(usable)
    found = texts_of(data, "turned")
    assert [a for a, b in zip(found, usable, strict=True) if b] == [b for b in usable if b]
    module, data = writer(tmp_path / "s", {"turned": turned()})
    assert len(set_up(SequenceLevel("t"), module, data, t=source)) == len(said) - 1  # kept


def test_labels_and_written_answers_side_by_side(tmp_path: Path) -> None:
    module, data = writer(tmp_path, {"turned": turned()})
    source = teacher(tmp_path, {"turned": turned()})
    labels = data.parts["train"]["words"].targets["turned"].clone()
    had = data.parts["train"]["words"].present["turned"].clone()
    method = SequenceLevel("t", alpha=0.4)
    set_up(method, module, data, t=source)
    part = data.parts["train"]["words"]
    written = method.written[0].targets
    assert written is not None
    width = min(labels.shape[1], part.targets["turned"].shape[1])
    assert torch.equal(part.targets["turned"][had][:, :width], labels[had][:, :width])
    assert bool(part.present["turned"].all())
    batch, taken = first_batch(data), []
    for step in range(200):
        own = method.change_batch(batch, module.network, step).batches["words"]
        again = method.change_batch(batch, module.network, step).batches["words"]
        assert torch.equal(own.targets["turned"], again.targets["turned"])
        moved = (own.targets["turned"] != batch.batches["words"].targets["turned"]).any(dim=1)
        assert not moved[~had[own.index]].any()
        taken.append(moved[had[own.index]].float().mean().item())
    assert np.mean(taken) == pytest.approx(0.4, abs=0.06)


def test_beams(tmp_path: Path) -> None:
    source = teacher(tmp_path, {"turned": turned(max_answer=5)})
    found = []
    for beams in (1, 4):
        module, data = writer(tmp_path, {"turned": turned()})
        set_up(SequenceLevel("t", beams=beams), module, data, t=source)
        found.append(texts_of(data, "turned"))
    assert found[0] != found[1]


def test_sequence_level_refuses(run: Run, tmp_path: Path, source: SourceModel) -> None:
    module, data = run
    numbers = teacher(tmp_path, {"turned": po.tasks.Regression("words", target="length")})
    for method, why in (
        (SequenceLevel({"turned": ["t", "t"]}), "must be one other model"),
        (SequenceLevel({"turned": "task:turned"}), "must be one other model"),
        (SequenceLevel({"turned": "n"}), "is regression, whose answers are no words"),
    ):
        with pytest.raises(UsageError, match=why):
            set_up(method, module, data, t=source, n=numbers)
    choices = writer(tmp_path / "c", {"first": chosen()})
    with pytest.raises(PollinateError, match="answers other, which aren't among the choices"):
        set_up(
            SequenceLevel("t"),
            *choices,
            t=teacher(tmp_path, {"first": chosen(choices=["ab", "cd", "other"])}),
        )
