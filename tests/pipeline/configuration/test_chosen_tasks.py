"""``tasks=[a,b]``, in a composed configuration."""

from __future__ import annotations

import pytest

from pipeline.config import compose
from pipeline.errors import UsageError


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
            "optimizer.lr_scale={heads.digit: 2, heads.sentiment: 3, trunk: 0.5}",
        ],
    )
    assert config["sampler"]["weights"] == {"mnist": 2}
    assert config["balancer"]["task_weights"] == {"digit": 1}
    assert config["optimizer"]["lr_scale"] == {"heads.digit": 2, "trunk": 0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tasks=[digt]", "tasks names 'digt'; did you mean digit?"),
        ("tasks=[]", "tasks must name at least one, or be null for all of them, got []"),
        ("tasks=[digit,digit]", 'tasks must differ, got ["digit", "digit"]'),
        ("labels=0", "labels must be a share in (0, 1], got 0"),
        ("labels=1.5", "labels must be a share in (0, 1], got 1.5"),
    ],
)
def test_bad_choices(given: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose("fit", [given])
    assert message in str(caught.value)
