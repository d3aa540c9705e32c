from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from datamodules.dataset_rules import split_problems
from pipeline.configuration.composition import compose
from pipeline.configuration.data_rules import data_problems
from pollinate.errors import UsageError
from pollinate.names import RESERVED_NAMES
from tests.pipeline.conftest import Fit

SOURCE = {"_target_": "tests.pipeline.standins.Rows"}
ENCODERS = {"text": {"_target_": "tests.pipeline.standins.Encoder"}}


@pytest.mark.parametrize("container", [nn.ModuleDict, nn.ParameterDict])
def test_reserved_names_are_those_of_the_containers(container: type[nn.Module]) -> None:
    attributes = {name for name in dir(container()) if not name.startswith("__")}
    assert attributes <= RESERVED_NAMES


def test_reserved_names_are_no_more_than_needed() -> None:
    later = {"smart_apply"}  # there once transformers is imported
    assert set(dir(nn.ModuleDict())) | set(dir(nn.ParameterDict())) | later >= RESERVED_NAMES


@pytest.mark.parametrize("group", ["tasks", "datasets"])
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("keys", "'keys' is reserved"),
        ("train", "'train' is reserved"),
        ("type", "'type' is reserved"),
        ("forward", "'forward' is reserved"),
        ("_modules", "'_modules' is reserved"),
        ("__class__", "'__class__' is reserved"),
        ("a-b", 'got "a-b"'),
        ("a b", 'got "a b"'),
        ("1a", 'got "1a"'),
        ("a.b", 'got "a.b"'),
        (1, "got 1"),
        ("ä", 'got "ä"'),
    ],
)
def test_bad_names(group: str, name: object, part: str) -> None:
    nodes = {
        "datasets": {"source": SOURCE, "inputs": {"text": "a"}, "split": {"column": "s"}},
        "tasks": {"dataset": "d", "type": SOURCE, "target": "y"},
    }
    data = {
        "datasets": {"d": nodes["datasets"]},
        "tasks": {"t": nodes["tasks"]},
    }
    data[group] = {**data[group], name: nodes[group]}  # type: ignore[dict-item]  # YAML keys may be numbers
    problems = list(data_problems(data, ENCODERS))
    assert len(problems) == 1
    assert f"data.{group}" in problems[0]
    assert part in problems[0]


@pytest.mark.parametrize("name", ["_x", "a1", "Keys", "sentiment", "text"])
def test_good_names(fit: Fit, name: str) -> None:
    task = f"data.tasks.{name}={{dataset: reviews, type: classification, target: score}}"
    assert name in fit(task)["data"]["tasks"]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("data.tasks.digit.dataset=mnst", ["'mnst'; did you mean mnist?", "data sets: mnist"]),
        ("data.tasks.digit.dataset=[mnist,corses]", ["'corses'; did you mean courses?"]),
        ("data.tasks.digit.dataset=[]", ["must name at least one data set"]),
        ("data.tasks.digit.target=3", ["data.tasks.digit.target must be a column's name"]),
        ("data.tasks.digit=3", ["data.tasks.digit must be a mapping of type, dataset, target"]),
        ("~data.tasks.digit.target", ["data.tasks.digit.target is missing"]),
        ("~data.tasks.digit.type", ["data.tasks.digit.type is missing"]),
        ("data.tasks.digit.labl_smoothing=0.1", ["did you mean label_smoothing?"]),
        ("data.datasets.mnist.inputs={imag: a}", ["'imag'; did you mean image?"]),
        ("data.datasets.mnist.inputs.image=3", ["inputs.image must be a column's name, got 3"]),
        ("data.datasets.mnist.inputs=image", ["must be {modality: column}", '"image"']),
        ("~encoder.image", ["uses image, which has no encoder; choose encoder/image="]),
        ("~data.datasets.mnist.inputs", ["data.datasets.mnist.inputs is missing"]),
        ("~data.datasets.mnist.split", ["data.datasets.mnist.split is missing"]),
        ("~data.datasets.mnist.source", ["data.datasets.mnist.source is missing"]),
        ("data.datasets.mnist.nme=a", ["unknown option data.datasets.mnist.source.nme"]),
        ("~data.datasets.mnist.name", ["data.datasets.mnist.source.name is missing"]),
    ],
)
def test_problems(refused: Callable[..., str], override: str, parts: list[str]) -> None:
    message = refused(override)
    assert all(part in message for part in parts), message


def test_at_least_one_of_each() -> None:
    problems = list(data_problems({"datasets": {}, "tasks": {}}, {}))
    assert [problem.partition(",")[0] for problem in problems] == [
        "data.datasets must name at least one",
        "data.tasks must name at least one",
    ]


@pytest.mark.parametrize(
    ("split", "part"),
    [
        ({"column": "s"}, None),
        ({"column": "s", "valid": 0.1}, None),
        ({"column": "s", "valid": 0.1, "test": 0.2}, None),
        ({"train": 0.8, "valid": 0.1, "test": 0.1}, None),
        ({"train": 0.7, "valid": 0.2, "test": 0.1}, None),  # 0.7 + 0.2 + 0.1 != 1 in binary
        ({"train": "???", "valid": 0.1, "test": 0.1}, None),  # reported as missing elsewhere
        ({"train": 1}, None),  # rows that no task has labels of
        ({"train": True}, "x.train must be a fraction in (0, 1), got true"),
        ({"train": 0.9}, "must give train, valid and test, got train"),
        ({}, "must be {column: NAME}, {files: "),
        (0.8, "must be {column: NAME}, {files: "),
        ({"column": 3}, "x.column must be a column's name, got 3"),
        ({"column": "s", "train": 0.1}, "x has no key 'train'"),
        ({"train": 0.8, "valid": 0.1}, "must give train, valid and test, got train, valid"),
        ({"train": 0.8, "valid": 0.1, "test": 0.2}, "must sum to 1, got "),
        ({"train": 0.8, "valid": 0.2, "test": 0}, "x.test must be a fraction in (0, 1), got 0"),
        ({"train": 1.2, "valid": -0.1, "test": -0.1}, "x.train must be a fraction in (0, 1)"),
        ({"train": True, "valid": 0.1, "test": 0.1}, "x.train must be a fraction in (0, 1)"),
        ({"train": 0.8, "val": 0.1, "test": 0.1}, "no key 'val'; did you mean valid?"),
        ({"train": 0.8, "valid": 0.1, "test": 0.1, "group": "g", "stratify": "s"}, None),
        ({"train": 0.8, "valid": 0.1, "test": 0.1, "stratify": ["s", "t"]}, None),
        ({"train": 0.8, "valid": 0.1, "test": 0.1, "stratify": []}, None),
        ({"column": "s", "stratify": [1]}, "x.stratify must be a column's name, or a list of them"),
        ({"column": "s", "valid": 0.1, "group": ["g"]}, "x.group must be a column's name, got ["),
        ({"column": "s", "valid": 0.1, "group": "g"}, None),
        ({"column": "s", "group": "g"}, "x.group says how rows are drawn, and here none are"),
        ({"files": {"train": "a", "test": "b"}, "stratify": "s"}, "x.stratify says how rows are"),
        ({"column": "s", "values": {"train": [0, 1], "test": "1"}}, "x.values names '1' twice"),
        ({"files": {"train": ["a", "b"], "test": "b"}}, "x.files names 'b' twice; a row is in"),
    ],
)
def test_splits(split: object, part: str | None) -> None:
    problems = list(split_problems("x", split))
    assert (problems == []) if part is None else part in problems[0]


@pytest.mark.parametrize(
    ("task", "part"),
    [
        ({"dataset": "d", "target": "y", "unlabelled": "e"}, None),
        ({"dataset": "d", "target": "y", "unlabelled": ["e"]}, None),
        (
            {"dataset": "d", "target": "y", "unlabelled": "f"},
            "data.tasks.t.unlabelled names 'f'; data sets: d, e",
        ),
        (
            {"dataset": ["d", "e"], "target": "y", "unlabelled": "e"},
            "data.tasks.t.unlabelled names 'e', which data.tasks.t.dataset names, too; choose one",
        ),
        (
            {
                "dataset": "d",
                "unlabelled": "e",
                "type": {**SOURCE, "modalities": ["text", "image"]},
            },
            "data.tasks.t.unlabelled is for tasks with a target; leave it out",
        ),
    ],
)
def test_data_sets_without_labels(task: dict[str, object], part: str | None) -> None:
    one = {"source": SOURCE, "inputs": {"text": "a"}, "split": {"column": "s"}}
    data = {"datasets": {"d": one, "e": one}, "tasks": {"t": {"type": SOURCE, **task}}}
    assert list(data_problems(data, ENCODERS)) == ([] if part is None else [part])


def test_data_sets_that_nobody_needs_are_dropped() -> None:
    data = compose("fit", ["tasks=[digit,sentiment]"])["data"]
    assert list(data["tasks"]) == ["digit", "sentiment"]
    assert list(data["datasets"]) == ["mnist", "reviews"]


def test_a_data_set_without_labels_is_kept_with_its_task() -> None:
    data = compose("fit", ["tasks=[digit]", "data.tasks.digit.unlabelled=[optdigits]"])["data"]
    assert list(data["datasets"]) == ["mnist", "optdigits"]


def test_what_is_said_of_other_tasks_is_left_out() -> None:
    config = compose(
        "fit",
        [
            "tasks=[digit]",
            "sampler=fixed",
            "sampler.weights={mnist: 2, reviews: 3}",
            "balancer=fixed",
            "balancer.task_weights={digit: 1, sentiment: 2}",
            "optimizer.lr_scale={heads.digit: 2, heads.sentiment: 3, encoders.text: 0.1, trunk: 2}",
        ],
    )
    assert config["sampler"]["weights"] == {"mnist": 2}
    assert config["balancer"]["task_weights"] == {"digit": 1}
    assert config["optimizer"]["lr_scale"] == {"heads.digit": 2, "trunk": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tasks=[digt]", "tasks names 'digt'; did you mean digit?"),
        ("tasks=[]", "tasks must name at least one, or be null for all of them, got []"),
        ("tasks=[digit,digit]", 'tasks must differ, got ["digit", "digit"]'),
        ("label_fraction=0", "label_fraction must be a share in (0, 1], got 0"),
        ("label_fraction=1.5", "label_fraction must be a share in (0, 1], got 1.5"),
    ],
)
def test_bad_choices(given: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose("fit", [given])
    assert message in str(caught.value)
