"""Rows of types of tasks."""

from __future__ import annotations

import math

from tests.rows.row import DATA, Row

SHOP_TASK = f"data={DATA}/tasks.yaml"
WRITING = (
    f"data={DATA}/generation.yaml",
    "encoder/text=language_model",
    f"encoder.text.model={DATA}/decoder_model",
    "encoder.text.weights=false",
)

# given: outputs and raw targets; expected: each row's loss
TASKS = (
    Row(
        "task",
        "classification",
        ([[0.0, math.log(3)], [0.0, math.log(3)]], ["no", "yes"]),
        [math.log(4), math.log(4 / 3)],
        train=("data.tasks.digit.type=classification",),
    ),
    Row(  # logits 0 and ln 3: p = 1/2 and 3/4
        "task",
        "multilabel",
        ([[0.0, math.log(3)], [0.0, math.log(3)]], ["a|b", "a"]),
        [(math.log(2) + math.log(4 / 3)) / 2, (math.log(2) + math.log(4)) / 2],
        train=(SHOP_TASK,),
    ),
    Row(  # mean 3, standard deviation 1: squares of 1 and 2, halved
        "task",
        "regression",
        ([3.0, 2.0], ["2", "4"]),
        [0.5, 2.0],
        train=(SHOP_TASK,),
    ),
    Row(  # is it above 1: ln 3; above 2: 0
        "task",
        "ordinal",
        ([[math.log(3), 0.0]] * 3, [1, 2, 10]),
        [
            (math.log(4) + math.log(2)) / 2,
            (math.log(4 / 3) + math.log(2)) / 2,
            (math.log(4 / 3) + math.log(2)) / 2,
        ],
        train=(SHOP_TASK,),
    ),
    Row(  # the second row has one word only
        "task",
        "tagging",
        ([[[0.0, math.log(3)], [0.0, 0.0]]] * 2, ["B-x O", "O"]),
        [(math.log(4 / 3) + math.log(2)) / 2, math.log(4)],
        train=(SHOP_TASK,),
    ),
    Row(  # tokens 0 and the end, 1: p = 1/4 and 3/4
        "task",
        "generation",
        ([[[0.0, math.log(3)]] * 2] * 2, ["a", "a"]),
        [(math.log(4) + math.log(4 / 3)) / 2] * 2,
        {"prompt": "{title}"},
        train=WRITING,
    ),
    Row(  # similarities are the identity times ln 3: p = 3 / (3 + 1)
        "task",
        "retrieval",
        ([[[math.log(3), 0.0], [1.0, 0.0]], [[0.0, math.log(3)], [0.0, 1.0]]], [True, True]),
        [math.log(4 / 3)] * 2,
        train=(SHOP_TASK,),
    ),
    Row(  # one cell for two pixels each: p = 1/4, 3/4; the second row has one labelled pixel
        "task",
        "segmentation",
        ([[[[0.0]], [[math.log(3)]]]] * 2, [[[1, 2]], [[0, 2]]]),
        [(math.log(4) + math.log(4 / 3)) / 2, math.log(4 / 3)],
        train=(SHOP_TASK,),
    ),
    Row(  # of 2, 4, 2 the standard deviation is sqrt(8 / 9); errors of 1, 1 and 2
        "task",
        "depth",
        ([[[[3.0]]], [[[4.0]]]], [[[2.0, 4.0]], [[0.0, 2.0]]]),
        [1.0 / math.sqrt(8 / 9), 2.0 / math.sqrt(8 / 9)],
        train=(SHOP_TASK,),
    ),
)
