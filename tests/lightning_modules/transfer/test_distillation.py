"""Distillation: students learn their teachers' outputs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.divergences import soft_divergence
from lightning_modules.hooks import TrainingStep
from lightning_modules.module import MultiTaskModule
from lightning_modules.source_models import SourceModel
from lightning_modules.tasks.multilabel import Multilabel
from lightning_modules.tasks.ordinal import Ordinal
from lightning_modules.tasks.regression import Regression
from lightning_modules.tasks.tagging import Tagging
from lightning_modules.transfer.annealed import AnnealedTransfer
from lightning_modules.transfer.decoupled import Decoupled
from lightning_modules.transfer.dist import Dist
from lightning_modules.transfer.hinton import Hinton
from pollinate.errors import PollinateError, UsageError
from tests.lightning_modules.test_module import as_rank
from tests.lightning_modules.transfer.helpers import (
    deterministic_data,
    first_batch,
    losses,
    required_tasks_of,
    set_up,
    source_outputs,
    step_of,
    teacher_source,
    texts_and_images,
)
from tests.tiny import images, labels, multitask, ready, task, texts

HALF = [label if row % 4 < 2 else None for row, label in enumerate(labels(40))]
Run = tuple[MultiTaskModule, MixedDataModule]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A task on texts of which half have a label."""
    data = deterministic_data({"notes": texts(40, label=HALF)}, {"kind": task("notes")}, tmp_path)
    return multitask(data), data


@pytest.fixture
def source(run: Run) -> SourceModel:
    return teacher_source(run[1])


def test_the_loss_by_hand(run: Run, source: SourceModel) -> None:
    """The labels' mean over labelled rows, the teacher's over all."""
    module, data = run
    set_up(Hinton("teacher", alpha=0.25, temperature=2.0), module, data, teacher=source)
    batch = first_batch(data)
    as_rank(module).training_step(batch, 0)
    rows = batch.batches["notes"]
    student, theirs = (
        module.network(batch.batches)["kind"],
        source_outputs(source, batch, "notes", "kind"),
    )
    apart = 4 * functional.kl_div(
        (student / 2).log_softmax(1), (theirs / 2).softmax(1), reduction="batchmean"
    )
    chosen = rows.present["kind"]
    assert 0 < chosen.sum() < len(chosen)
    right = functional.cross_entropy(student[chosen], rows.targets["kind"][chosen])
    assert module.losses["kind"].item() == pytest.approx((0.75 * right + 0.25 * apart).item())
    assert module.transfer.gauges() == {"distil/kind": pytest.approx(apart.item())}


def test_the_teacher_stays_outside(run: Run, source: SourceModel) -> None:
    module, data = run
    said = set_up(Hinton("teacher"), module, data, teacher=source)
    before = {
        name: value.clone() for name, value in source.predictor().network.state_dict().items()
    }
    assert not list(module.transfer.parameters())
    assert not module.transfer.state_dict()
    module.train()
    module.backward(as_rank(module).training_step(first_batch(data), 0))
    network = source.predictor().network
    assert not any(part.training for part in network.modules())
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    twin = deepcopy(module.transfer)
    assert isinstance(twin, Hinton)
    assert twin.opened_teachers is module.transfer.opened_teachers  # type: ignore[union-attr]  # a Hinton
    assert said[0] == "kind: taught by teacher on notes"


def test_classes_are_matched_by_name(run: Run, source: SourceModel) -> None:
    module, data = run
    batch = first_batch(data)
    set_up(Hinton("teacher", alpha=1.0), module, data, teacher=source)
    expected = losses(module.transfer, module, batch).by_task["kind"].item()  # type: ignore[arg-type]
    other = teacher_source(data)
    own, head = other.predictor().tasks["kind"], other.predictor().network.heads["kind"]
    own.classes = list(reversed(own.classes))
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(weight.flip(0))
    set_up(Hinton("other", alpha=1.0), module, data, other=other_named(other))
    found = losses(module.transfer, module, batch).by_task["kind"].item()  # type: ignore[arg-type]
    assert found == pytest.approx(expected)


def other_named(source: SourceModel) -> SourceModel:
    from dataclasses import replace

    return replace(source, name="other", digest="other")


def test_several_teachers_are_averaged(run: Run) -> None:
    module, data = run
    one, two = teacher_source(data, "one", 1), teacher_source(data, "two", 2)
    named = [{"source": "one", "weight": 3}, "two"]
    set_up(Hinton(named, temperature=1.0), module, data, one=one, two=two)
    step = step_of(module, first_batch(data))
    distil_batch = module.transfer.opened_teachers.by_task["kind"].distil_batch(step)  # type: ignore[union-attr]
    said = [source_outputs(source, step.batch, "notes", "kind").softmax(1) for source in (one, two)]
    assert distil_batch is not None
    assert torch.allclose(
        distil_batch.teacher.softmax(1), 0.75 * said[0] + 0.25 * said[1], atol=1e-6
    )


def test_unlabelled_data_sets_are_taught(tmp_path: Path) -> None:
    """A data set without a column of labels; a step that has its rows only."""
    spec = task("notes")
    spec.datasets, spec.unlabelled = ["notes", "more"], ["more"]
    more = texts(24)
    del more.source.columns["label"]  # type: ignore[attr-defined]  # in memory
    data = deterministic_data({"notes": texts(40), "more": more}, {"kind": spec}, tmp_path)
    module, source = multitask(data), teacher_source(data)
    set_up(Hinton("teacher", alpha=1.0), module, data, teacher=source)
    batch = first_batch(data)
    del batch.batches["notes"]
    batch.sizes["notes"], batch.labelled = 0, {"kind": 0}
    assert required_tasks_of(module.transfer, batch) == ["kind"]  # type: ignore[arg-type]
    as_rank(module).training_step(batch, 0)
    student = module.network(batch.batches)["kind"]
    apart = soft_divergence(student, source_outputs(source, batch, "more", "kind"), 4.0).mean()
    assert module.losses["kind"].item() == pytest.approx(apart.item())


def test_rows_without_the_teachers_modality_learn_nothing_from_it(tmp_path: Path) -> None:
    data = deterministic_data(
        {"all": texts_and_images(label=labels(40))}, {"kind": task("all")}, tmp_path
    )
    pictures = deterministic_data(
        {"shapes": images(24, label=labels(24))}, {"kind": task("shapes")}, tmp_path
    )
    module, source = multitask(data), teacher_source(pictures)
    set_up(Hinton("teacher", alpha=1.0), module, data, teacher=source)
    step = step_of(module, first_batch(data))
    has = step.batch.batches["all"].has["image"]
    distil_batch = module.transfer.opened_teachers.by_task["kind"].distil_batch(step)  # type: ignore[union-attr]
    assert distil_batch is not None
    assert distil_batch.rows == len(distil_batch.student) == int(has.sum()) < len(has)
    assert torch.equal(distil_batch.student, step.outputs["kind"][has])


def test_a_teacher_reads_a_column_that_the_student_does_not(tmp_path: Path) -> None:
    """Cross-modal: the student has texts only, the teacher looked at pictures."""
    only = texts_and_images(inputs={"text": "text"}, label=labels(40))
    data = deterministic_data({"all": only}, {"kind": task("all")}, tmp_path)
    pictures = deterministic_data(
        {"shapes": images(24, label=labels(24))}, {"kind": task("shapes")}, tmp_path
    )
    module, source = multitask(data), teacher_source(pictures)
    set_up(Hinton("teacher"), module, data, teacher=source)
    step = step_of(module, first_batch(data))
    distil_batch = module.transfer.opened_teachers.by_task["kind"].distil_batch(step)  # type: ignore[union-attr]
    assert distil_batch is not None
    rows = data.parts["train"]["all"].rows[step.batch.batches["all"].index]
    pictured = [row for row in rows if row % 5 != 4]
    assert len(distil_batch.teacher) == len(pictured)
    store = pictures.modalities["image"].prepare([pixels_of(data, row) for row in pictured]).store
    network = source.predictor().network
    seen = network.encoder("image")(store.rows(torch.arange(len(pictured)).numpy()))
    expected = network.heads["kind"](network.trunk.norm(network.trunk.blocks(seen.pooled)))  # type: ignore[operator, union-attr]
    assert torch.allclose(distil_batch.teacher, expected, atol=1e-5)


def pixels_of(data: MixedDataModule, row: int) -> Any:
    return data.loaded["all"].table.columns["image"][row]


def test_a_task_of_the_run_teaches_another(tmp_path: Path) -> None:
    tasks = {"kind": task("notes"), "same": task("notes", "more")}
    data = deterministic_data({"notes": texts(40), "more": texts(40)}, tasks, tmp_path)
    module = multitask(data)
    said = set_up(Hinton({"kind": "task:same"}, alpha=1.0), module, data)
    assert said == ["kind: taught by task:same on notes"]
    batch = first_batch(data)
    assert required_tasks_of(module.transfer, batch) == ["kind", "same"]  # type: ignore[arg-type]
    step = step_of(module, batch)
    module.transfer.losses(step).by_task["kind"].backward()  # type: ignore[no-untyped-call]
    distil_batch = module.transfer.opened_teachers.by_task["kind"].distil_batch(step)  # type: ignore[union-attr]
    assert distil_batch is not None
    assert torch.equal(
        distil_batch.teacher, step.outputs["same"][: len(distil_batch.teacher)].detach()
    )
    assert all(weight.grad is None for weight in module.network.heads["same"].parameters())


def test_decoupled_takes_the_label_or_the_likeliest_class(run: Run, source: SourceModel) -> None:
    module, data = run
    method = Decoupled("teacher", target=1.0, others=0.0, temperature=1.0, alpha=1.0)
    set_up(method, module, data, teacher=source)
    step = step_of(module, first_batch(data))
    own, theirs = step.outputs["kind"], source_outputs(source, step.batch, "notes", "kind")
    # of two classes nothing is left but whether it is the target
    expected = soft_divergence(own, theirs, 1.0).mean().item()
    assert method.losses(step).by_task["kind"].item() == pytest.approx(expected, rel=1e-4)


def test_dist_learns_to_rank_rows(run: Run, source: SourceModel) -> None:
    module, data = run
    set_up(Dist("teacher", alpha=1.0, temperature=1.0), module, data, teacher=source)
    batch = first_batch(data)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    found = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = losses(module.transfer, module, batch).by_task["kind"]  # type: ignore[arg-type]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.5 * found[0]


def test_annealing_goes_from_the_teacher_to_the_labels(run: Run, source: SourceModel) -> None:
    module, data = run
    inner = Hinton("teacher", alpha=0.8, temperature=1.0)
    set_up(inner, module, data, teacher=source)
    method, batch = AnnealedTransfer(inner), first_batch(data)
    whole = inner.losses(step_of(module, batch)).by_task["kind"].item()
    for done, mix in ((0, 0.0), (5, 0.5), (10, 1.0)):
        found = method.losses(step_of(module, batch, steps_done=done, total_steps=10))
        assert found.by_task["kind"].item() == pytest.approx((1 - mix) * whole)
        assert found.label_weights["kind"] == pytest.approx((1 - mix) * (1 - 0.8) + mix)
        assert method.gauges()["annealed/labels"] == mix
    assert method.required_tasks(batch) == inner.required_tasks(batch)
    with pytest.raises(UsageError, match=r"transfer.steps must say when the method's part is gone"):
        method.losses(step_of(module, batch))
    short = AnnealedTransfer(inner, steps=4)
    assert short.mix(TrainingStep(batch, {}, step_of(module, batch).trace, steps_done=8)) == 1.0


def test_weights_of_parts() -> None:
    with pytest.raises(UsageError, match="target and others must be >= 0, one > 0, got 0 and 0"):
        Decoupled("teacher", target=0, others=0)
    with pytest.raises(UsageError, match="inter and intra must be >= 0, one > 0, got -1 and 2"):
        Dist("teacher", inter=-1, intra=2)
    with pytest.raises(UsageError, match="steps must be >= 1 or null, got 0"):
        AnnealedTransfer(Hinton("teacher"), steps=0)


def kinds_of_tasks(tmp_path: Path) -> MixedDataModule:
    columns = {
        "price": [float(row) for row in range(40)],
        "marks": ["new|sale" if row % 2 else "new|old" for row in range(40)],
        "stars": [str(1 + row % 3) for row in range(40)],
    }
    tasks = {
        "stars": Ordinal("notes", "stars"),  # the first: rows are stratified by it
        "price": Regression("notes", "price"),
        "marks": Multilabel("notes", "marks"),
    }
    return deterministic_data({"notes": texts(40, **columns)}, tasks, tmp_path)


def test_numbers_labels_and_orders_are_taught(tmp_path: Path) -> None:
    data = kinds_of_tasks(tmp_path)
    module, source = multitask(data), teacher_source(data)
    set_up(Hinton("teacher", alpha=1.0, temperature=2.0), module, data, teacher=source)
    step = step_of(module, first_batch(data))
    found = module.transfer.losses(step).by_task
    for name in ("price", "marks", "stars"):
        own, theirs = step.outputs[name], source_outputs(source, step.batch, "notes", name)
        if name == "price":
            std = data.tasks["price"].std  # type: ignore[attr-defined]  # a Regression
            expected = ((own - theirs) / std).square() / 2
        else:
            p, q = (theirs / 2).sigmoid(), (own / 2).sigmoid()
            expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
        assert found[name].item() == pytest.approx(expected.mean().item(), rel=1e-4), name


def test_several_teachers_of_numbers_and_labels(tmp_path: Path) -> None:
    data = kinds_of_tasks(tmp_path)
    module, one, two = (
        multitask(data),
        teacher_source(data, "one", 1),
        teacher_source(data, "two", 2),
    )
    method = Hinton({name: ["one", "two"] for name in data.tasks}, temperature=1.0)
    set_up(method, module, data, one=one, two=two)
    step = step_of(module, first_batch(data))
    for name, soft in (("price", torch.Tensor.double), ("marks", torch.sigmoid)):
        distil_batch = method.opened_teachers.by_task[name].distil_batch(step)
        said = [soft(source_outputs(source, step.batch, "notes", name)) for source in (one, two)]
        assert distil_batch is not None
        assert torch.allclose(soft(distil_batch.teacher), (said[0] + said[1]) / 2, atol=1e-5)


@pytest.mark.parametrize("method", [Decoupled, Dist])
def test_methods_for_classes_only(method: Any, tmp_path: Path) -> None:
    data = kinds_of_tasks(tmp_path)
    with pytest.raises(UsageError, match=f"{method.__name__} teaches tasks that choose one of"):
        set_up(method({"price": "teacher"}), multitask(data), data, teacher=teacher_source(data))


def test_rows_that_never_change_are_looked_up(run: Run, source: SourceModel) -> None:
    module, data = run
    said = set_up(Hinton("teacher"), module, data, teacher=source)
    assert said[1:] == ["computing outputs of teacher for 20 rows of notes, once"]
    step = step_of(module, first_batch(data))
    distil_batch = module.transfer.opened_teachers.by_task["kind"].distil_batch(step)  # type: ignore[union-attr]
    theirs = source_outputs(source, step.batch, "notes", "kind")
    assert distil_batch is not None
    assert torch.allclose(distil_batch.teacher, theirs, atol=1e-6)
    # another run finds them; a teacher that changed is asked anew
    assert set_up(Hinton("teacher"), module, data, teacher=source)[1:] == []
    changed = teacher_source(data, seed=2)
    assert len(set_up(Hinton("teacher"), module, data, teacher=changed)) == 2


def test_a_damaged_table_is_computed_again(run: Run, source: SourceModel, tmp_path: Path) -> None:
    module, data = run
    set_up(Hinton("teacher"), module, data, teacher=source)
    (file,) = tmp_path.rglob("kind.npy")
    file.write_bytes(file.read_bytes()[:-4] + b"1234")
    *_, computed, note = set_up(Hinton("teacher"), module, data, teacher=source)
    assert computed.startswith("computing outputs of teacher")
    assert note.startswith("note: ")
    assert note.endswith("was damaged (kind.npy was changed) and was made again")


def test_rows_that_change_are_looked_at_as_they_come() -> None:
    data = ready()  # words are left out, pictures are moved
    module, source = multitask(data), teacher_source(data)
    said = set_up(Hinton("teacher"), module, data, teacher=source)
    assert said[2:] == [
        "note: teacher sees the rows of notes in every step, because data.text.dropout=0.2 changes "
        "them",
        "note: teacher sees the rows of shapes in every step, because data.image.shift=1.0 changes "
        "them",
    ]
    step = step_of(module, first_batch(data))
    distil_batch = module.transfer.opened_teachers.by_task["shapes"].distil_batch(step)  # type: ignore[union-attr]
    assert distil_batch is not None
    assert torch.allclose(
        distil_batch.teacher, source_outputs(source, step.batch, "shapes", "shapes")
    )


def test_kept_features_leave_a_table(tmp_path: Path) -> None:
    """The step then has no inputs that a teacher could look at."""
    data = deterministic_data({"notes": texts(40)}, {"kind": task("notes")}, tmp_path)
    kept: Any = {"text": object()}
    data.parts["train"]["notes"].cached = kept
    module, source = multitask(data), teacher_source(data)
    set_up(Hinton("teacher"), module, data, teacher=source)
    assert module.transfer.opened_teachers.models["teacher", "notes"].online is None  # type: ignore[union-attr]


def test_streamed_rows_are_looked_at_as_they_come(tmp_path: Path) -> None:
    data = deterministic_data({"notes": texts(40)}, {"kind": task("notes")}, tmp_path)
    data.loaded["notes"].table.streamed = {"text": np.ones(40, bool)}
    module, source = multitask(data), teacher_source(data)
    said = set_up(Hinton("teacher"), module, data, teacher=source)
    assert said[1:] == [
        "note: teacher sees the rows of notes in every step, because they are streamed"
    ]
    named = Hinton("teacher", inputs={"notes": {"text": "text"}})
    with pytest.raises(UsageError, match=r"data.datasets.notes.streaming=false"):
        set_up(named, module, data, teacher=source)


WRONG: dict[str, tuple[Any, str]] = {
    "no teachers": ({"teachers": {}}, r"transfer.teachers must name sources, got none"),
    "none for a task": ({"teachers": {"kind": []}}, "must name sources for kind, got none"),
    "unknown task": ({"teachers": {"kid": "teacher"}}, r"names the task 'kid'; did you mean kind?"),
    "unknown key": (
        {"teachers": {"kind": {"source": "teacher", "wait": 1}}},
        r"transfer.teachers.kind must be a source, {source: RUN, task: NAME, weight: 1} or a list",
    ),
    "weight": (
        {"teachers": {"kind": {"source": "teacher", "weight": 0}}},
        "kind: weight must be > 0, got 0",
    ),
    "map of an unknown task": (
        {"teachers": "teacher", "map": {"kid": "kind"}},
        r"transfer.map names the task 'kid'",
    ),
    "a teacher that lacks the task": (
        {"teachers": "teacher", "map": {"kind": "kin"}},
        r"teacher has no task 'kin' to teach kind; did you mean kind\? its tasks: kind; say which "
        r"one does, .transfer.map={kind:NAME}",
    ),
    "itself": ({"teachers": {"kind": "task:kind"}}, "a task can't teach itself"),
    "unknown peer": ({"teachers": {"kind": "task:x"}}, "names the task 'x'; tasks: kind"),
    "inputs of an unknown data set": (
        {"teachers": "teacher", "inputs": {"note": {"text": "text"}}},
        r"transfer.inputs names the data set 'note'; did you mean notes\?",
    ),
    "inputs of a column that isn't there": (
        {"teachers": "teacher", "inputs": {"notes": {"text": "txt"}}},
        r"transfer.inputs.notes.text names the column 'txt', which the data set hasn't; did you",
    ),
    "inputs that nobody reads": (
        {"teachers": "teacher", "inputs": {"notes": {"audio": "text"}}},
        r"transfer.inputs.notes gives audio, which no teacher of its tasks reads; they read: text",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options(case: str, run: Run, source: SourceModel) -> None:
    options, message = WRONG[case]
    with pytest.raises(UsageError, match=message):
        set_up(Hinton(**options), run[0], run[1], teacher=source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"temperature": 0.0}, "temperature must be > 0, got 0.0"),
    ],
)
def test_wrong_numbers(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Hinton("teacher", **options)


def test_other_classes_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    others = deterministic_data(
        {"notes": texts(40, label=labels(40, ("no", "maybe", "so")))},
        {"kind": task("notes")},
        tmp_path,
    )
    message = (
        "the task kind of teacher must have the classes of kind here to teach it: it lacks yes and "
        "also has maybe, so"
    )
    with pytest.raises(PollinateError, match=message):
        set_up(Hinton("teacher"), *run, teacher=teacher_source(others))


def test_another_order_is_refused(tmp_path: Path) -> None:
    first = {"stars": Ordinal("notes", "stars", classes=["1", "2", "3"])}
    second = {"stars": Ordinal("notes", "stars", classes=["3", "2", "1"])}
    sets = {"notes": texts(40, stars=[str(1 + row % 3) for row in range(40)])}
    data, other = (
        deterministic_data(sets, first, tmp_path),
        deterministic_data(sets, second, tmp_path),
    )
    with pytest.raises(PollinateError, match="must have its classes in the order of stars here"):
        set_up(Hinton("teacher"), multitask(data), data, teacher=teacher_source(other))


def test_another_type_is_refused(run: Run, tmp_path: Path) -> None:
    tasks = {"kind": Regression("notes", "price")}
    numbers = deterministic_data(
        {"notes": texts(40, price=[row % 8 for row in range(40)])}, tasks, tmp_path
    )
    with pytest.raises(
        UsageError, match="the task kind of teacher is regression, and kind here is"
    ):
        set_up(Hinton("teacher"), *run, teacher=teacher_source(numbers))


def test_tasks_that_cannot_be_taught_are_refused(tmp_path: Path) -> None:
    tags = ["B-x" if row % 2 else "O" for row in range(40)]
    tasks = {"slots": Tagging("notes", "tags")}
    words = [[f"word{row}"] for row in range(40)]
    data = deterministic_data({"notes": texts(40, tags=tags, text=words)}, tasks, tmp_path)
    with pytest.raises(UsageError, match="slots is tagging; name the tasks to be taught"):
        Hinton("teacher").setup(multitask_without(data), data, None)  # type: ignore[arg-type]


def multitask_without(data: MixedDataModule) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(tasks=dict(data.tasks))


def test_a_teacher_that_reads_nothing_here_is_refused(run: Run, tmp_path: Path) -> None:
    pictures = deterministic_data(
        {"shapes": images(24, label=labels(24))}, {"kind": task("shapes")}, tmp_path
    )
    message = (
        r"teacher reads image to answer kind, and notes has none; name the column: "
        r"transfer.inputs={notes: {image: COLUMN}}"
    )
    with pytest.raises(UsageError, match=message):
        set_up(Hinton("teacher"), *run, teacher=teacher_source(pictures))


def test_peers_without_common_rows_are_refused(tmp_path: Path) -> None:
    tasks = {"kind": task("notes"), "same": task("more")}
    data = deterministic_data({"notes": texts(40), "more": texts(40)}, tasks, tmp_path)
    with pytest.raises(UsageError, match=r"data.tasks.same.unlabelled=\[notes\]"):
        set_up(Hinton({"kind": "task:same"}), multitask(data), data)
