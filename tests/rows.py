"""One row for each option of each group of methods: an input, and what comes out by hand.

A new method is a file, a YAML and a row here. ``test_every_config.py`` compares rows with YAML
files; the group's own test says what ``given`` and ``expected`` are, by a test named ``test_row``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.configuration.groups import SHIPPED
from pipeline.configuration.named import resolve_named
from pipeline.configuration.yaml_files import load_yaml
from pipeline.instantiate import find_target, instantiate

DIM = 8
SOURCE = "data-quickstart"  # folder of a run that test_every_config has trained before
READS_ALIKE = f"data.text.tokenizer={SOURCE}"
DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Row:
    """With ``options`` over its YAML file, the method makes ``expected`` of ``given``.

    train: what selects the option for a whole run; default ``group=option``.
    """

    group: str
    option: str
    given: Any
    expected: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    train: Sequence[str] = ()

    @property
    def name(self) -> str:
        return f"{self.group}/{self.option}"

    def node(self) -> dict[str, Any]:
        """The option's configuration, resolved as in a run with ``dim`` of DIM."""
        key = self.group.replace("/", ".")
        known = {"dim": DIM, "seed": 0, "data": {"image": {"size": [16, 16]}}}
        config = OmegaConf.create(known)
        OmegaConf.update(config, key, load_yaml(SHIPPED / f"{self.name}.yaml"))
        OmegaConf.update(config, key, dict(self.options), merge=True, force_add=True)
        resolve_named(config, [SHIPPED])
        node: Any = OmegaConf.to_container(config, resolve=True)
        for part in key.split("."):
            node = node[part]
        node.pop("_requires_", None)
        return node

    def kind(self) -> type[Any]:
        """The method's class."""
        return find_target(self.node()["_target_"], (), self.name)

    def build(self, **extra: Any) -> Any:
        """The method, with what only a run knows."""
        return instantiate(self.node(), (), self.name, **extra)


# given: losses; expected: the objective, and each task's weight
LOSS_BALANCERS = (
    Row("balancer", "equal", {"a": 2.0, "b": 3.0}, (5.0, {"a": 1.0, "b": 1.0})),
    Row(
        "balancer",
        "fixed",
        {"a": 2.0, "b": 3.0},
        (4.0, {"a": 0.5, "b": 1.0}),
        {"task_weights": {"a": 0.5}},
    ),
    Row(  # 2 / 4 + 3 / 4 + (ln 4 + ln 4) / 2
        "balancer",
        "uncertainty",
        {"a": 2.0, "b": 3.0},
        (1.25 + math.log(4), {"a": 0.25, "b": 0.25}),
        {"initial": math.log(4)},
    ),
    # sqrt(2 * 8) = 4; w = 4 / (2 * L)
    Row("balancer", "geometric_mean", {"a": 2.0, "b": 8.0}, (4.0, {"a": 1.0, "b": 0.25})),
    Row("balancer", "log_loss", {"a": 2.0, "b": 8.0}, (math.log(16), {"a": 0.5, "b": 0.125})),
    Row(  # p (L - z) = 4, 4: the maximum plus mu ln 2, half the weight each
        "balancer",
        "smooth_tchebycheff",
        {"a": 2.0, "b": 5.0},
        (4 + 0.5 * math.log(2), {"a": 1.0, "b": 0.5}),
        {"mu": 0.5, "preference": {"a": 2.0}, "ideal": {"b": 1.0}},
    ),
    Row(  # p = (2, 1), L = (3, 4): p.L = 10, cos = 10 / (5 sqrt 5)
        "balancer",
        "cosmos",
        {"a": 3.0, "b": 4.0},
        (
            10 - 2 / math.sqrt(5),
            {"a": 2 - (0.4 - 0.24) / math.sqrt(5), "b": 1 - (0.2 - 0.32) / math.sqrt(5)},
        ),
        {"strength": 1.0, "preference": {"a": 2.0}},
    ),
    Row(  # above z = (3, 1), p = (1, 1): d_1 = 4 / sqrt 2, the rest (1, -1)
        "balancer",
        "pbi",
        {"a": 3.0, "b": 2.0},
        (3 * math.sqrt(2), {"a": math.sqrt(2), "b": 0.0}),
        {"penalty": 1.0, "ideal": {"b": 1.0}},
    ),
    Row(  # 2 * 4 + 3 * 4 - 2 ln 4
        "balancer",
        "imtl_l",
        {"a": 2.0, "b": 3.0},
        (20 - 2 * math.log(4), {"a": 4.0, "b": 4.0}),
        {"initial": math.log(4)},
    ),
    Row("balancer", "random", {"a": 2.0}, (2.0, {"a": 1.0})),  # drawn, but they sum up to T
    Row("balancer", "dynamic_weight_average", {"a": 2.0, "b": 3.0}, (5.0, {"a": 1.0, "b": 1.0})),
    # z = 1/2 each: w = 2 (1/L) / (1/2 + 1/8)
    Row("balancer", "famo", {"a": 2.0, "b": 8.0}, (6.4, {"a": 1.6, "b": 0.4})),
)

CONFLICT = [[4.0, -2.0], [-2.0, 2.0]]
LONG = [[4.0, 0.0], [0.0, 1.0]]

# given: the Gramian of the tasks a, b, ...; expected: their weights
GRAMIAN_BALANCERS = (
    Row("balancer", "mgda", CONFLICT, [0.8, 1.2]),  # G v = 1 for v = (1, 1.5)
    Row("balancer", "pcgrad", CONFLICT, [1.5, 2.0]),  # g_a + g_b, and g_b + g_a / 2
    Row("balancer", "gradvac", CONFLICT, [1.5, 2.0]),  # usual cosines of 0: as PCGrad
    Row("balancer", "upgrad", CONFLICT, [1.5, 2.0]),  # for two tasks the same
    # with v_a = 1, the sum conflicts with g_b until -2 + 1.5 v_b = 0
    Row("balancer", "dualproj", [[4.0, -2.0], [-2.0, 1.5]], [1.0, 4 / 3]),
    # g_a = 3 g_b: g_v = g_b, and d = g_0 + (2 / 2) g_b, times 2 / 1.5
    Row("balancer", "cagrad", [[9.0, 3.0], [3.0, 1.0]], [2 / 3, 2.0], {"c": 0.5}),
    Row(  # G v = d for v = (1 + sqrt(1/2), 1 + sqrt 2)
        "balancer",
        "imtl_g",
        CONFLICT,
        [
            2 * (1 + math.sqrt(0.5)) / (2 + math.sqrt(0.5) + math.sqrt(2)),
            2 * (1 + math.sqrt(2)) / (2 + math.sqrt(0.5) + math.sqrt(2)),
        ],
    ),
    Row("balancer", "nash_mtl", LONG, [math.sqrt(2.5 / 4), math.sqrt(2.5)]),
    Row("balancer", "fairgrad", LONG, [(2.5 / 4) ** (1 / 3), 2.5 ** (1 / 3)], {"alpha": 0.5}),
    Row("balancer", "aligned_mtl", LONG, [0.5, 1.0]),  # both as short as g_b
    Row("balancer", "config", LONG, [0.75, 1.5]),  # along (1, 1) / sqrt 2, 2 + 1 long
    # from (3, 0.5) to (1, 1.5) the nearest to 0 is the end: v = (0, 1)
    Row("balancer", "sdmgrad", LONG, [0.5, 1.5], {"strength": 1.0}),
    Row("balancer", "gradnorm", LONG, [1.0, 1.0]),  # before it learns
    Row("balancer", "cr_mogm", CONFLICT, [0.98, 1.02]),  # a tenth of MGDA's
    Row(  # numbers 1, 2 and 10: the last is far from its nearest
        "balancer",
        "krum",
        [[1.0, 2.0, 10.0], [2.0, 4.0, 20.0], [10.0, 20.0, 100.0]],
        [1.5, 1.5, 0.0],
        {"outliers": 0},
    ),
    Row("balancer", "random_gradient", [[4.0]], [1.0]),  # drawn, but they sum up to T
)

# given: the gradients of the tasks a, b, ...; expected: the combined one
JACOBIAN_BALANCERS = (
    Row("balancer", "graddrop", [[1.0, -2.0], [3.0, -2.0]], [4.0, -4.0]),  # signs agree
    Row("balancer", "trimmed_mean", [[1.0, 5.0], [2.0, 6.0], [9.0, -9.0]], [6.0, 15.0]),
    # Y Y^T / its mean = diag(1.6, 0.4): v = (0.42, 0.48) + 0.05
    Row("balancer", "moco", [[2.0, 0.0], [0.0, 1.0]], [1.88, 1.06]),
    Row("balancer", "excess_mtl", [[2.0, 0.0], [0.0, 1.0]], [2.0, 1.0]),  # before it learns
    Row("balancer", "auto_lambda", [[2.0, 0.0], [0.0, 1.0]], [2.0, 1.0]),  # before it learns
)

BALANCERS = (*LOSS_BALANCERS, *GRAMIAN_BALANCERS, *JACOBIAN_BALANCERS)

# given: training rows of each data set; expected: rows of each in a step of 10
SAMPLERS = (
    Row("sampler", "proportional", {"a": 10, "b": 70}, {"a": 2, "b": 8}, {"batch_size": 10}),
    Row(
        "sampler",
        "temperature",
        {"a": 10, "b": 90},
        {"a": 3, "b": 7},
        {"batch_size": 10, "temperature": 2.0},
    ),
    Row("sampler", "uniform", {"a": 10, "b": 70}, {"a": 5, "b": 5}, {"batch_size": 10}),
    Row(
        "sampler",
        "fixed",
        {"a": 10, "b": 70},
        {"a": 7, "b": 3},  # one row each, and 8 rows as 3 : 1
        {"batch_size": 10, "weights": {"a": 3.0}},
    ),
    Row("sampler", "annealed", {"a": 10, "b": 70}, {"a": 2, "b": 8}, {"batch_size": 10}),
    Row(
        "sampler",
        "adaptive",
        {"a": 10, "b": 90},
        {"a": 3, "b": 7},
        {"batch_size": 10, "temperature": 2.0},
    ),
)

# given: optimizer steps of the run; expected: factor on the learning rate at some of them
SCHEDULES = (
    Row("schedule", "constant", 10, {0: 0.5, 1: 1, 5: 1, 10: 1}, {"warmup": 1}),
    Row(
        "schedule",
        "linear",
        12,
        {0: 1 / 3, 1: 2 / 3, 2: 1, 7: 0.6, 12: 0.2},
        {"warmup": 2, "end": 0.2},
    ),
    Row(
        "schedule",
        "cosine",
        12,
        {0: 1 / 3, 1: 2 / 3, 2: 1, 7: 0.6, 12: 0.2},
        {"warmup": 2, "end": 0.2},
    ),
    Row(
        "schedule",
        "one_cycle",
        10,
        {0: 0.2, 2: 0.6, 4: 1, 7: 0.55, 10: 0.1},
        {"rise": 0.4, "start": 0.2, "end": 0.1},
    ),
)

# given: gradients, one a step, of a weight that is 1; expected: the weight after each step
OPTIMIZERS = (
    Row("optimizer", "sgd", [1.0, 1.0], [0.9, 0.8], {"weight_decay": 0.0}),
    Row(  # Nesterov: step = lr (g + m v), v = m v + g: 1 + 0.9, then 1 + 0.9 x 1.9
        "optimizer",
        "momentum",
        [1.0, 1.0],
        [1 - 0.05 * 1.9, 1 - 0.05 * (1.9 + 2.71)],
        {"weight_decay": 0.0},
    ),
    Row("optimizer", "adam", [3.0, 3.0], [1 - 2e-3, 1 - 4e-3]),  # lr sign(g)
    Row(
        "optimizer", "adamw", [3.0], [1 - 2e-3 * 0.01 - 2e-3], {"lr": 2e-3}
    ),  # decay, then lr sign(g)
    Row(  # v = 0.01 g^2, so that the step is lr / 0.1
        "optimizer",
        "torch",
        [5.0],
        [0.99],
        {"name": "RMSprop"},
        ("optimizer=torch", "optimizer.name=RMSprop"),
    ),
)

NORMED = [[-1.0, 1.0], [1.0, -1.0]]
SQUARE = [[1.0, 3.0], [9.0, 5.0]]

# given: pooled features of a data set; expected: a task's representation of them. All linear layers
# are 0: blocks add nothing, gates and masks are even, and the norms at the end are what is left
TRUNKS = (
    Row("trunk", "shared", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "cross_stitch", SQUARE, NORMED, {"dim": 2, "own": 0.5}),
    Row("trunk", "sluice", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "mtan", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "mmoe", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "cgc", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "ple", SQUARE, NORMED, {"dim": 2}),
    Row(  # codes of two bits, 1/4 each: the fourth is of no expert
        "trunk",
        "dselect_k",
        SQUARE,
        [[-0.75, 0.75], [0.75, -0.75]],
        {"dim": 2, "count": 3},
    ),
    Row("trunk", "learning_to_branch", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "film", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "task_queries", SQUARE, NORMED, {"dim": 2, "heads": 2}),
    Row("trunk", "soft_sharing", SQUARE, NORMED, {"dim": 2}),
)

TEXT = {"pooled": (3, DIM), "sequence": (3, 5, DIM), "mask": (3, 5)}

TINY = (
    "encoder/text=transformers",
    f"encoder.text.model={DATA}/text_model",
    "encoder.text.weights=false",
)

# given: shape of the inputs; expected: shapes of the features
ENCODERS = (
    Row("encoder/image", "cnn", (2, 1, 28, 28), {"pooled": (2, DIM), "grid": (2, DIM, 7, 7)}),
    Row("encoder/image", "mlp", (2, 1, 16, 16), {"pooled": (2, DIM)}),
    Row(
        "encoder/audio",
        "spectrogram",
        (3, 9, 64),
        {"pooled": (3, DIM), "sequence": (3, 3, DIM), "mask": (3, 3)},
        train=(f"data={DATA}/audio_folder.yaml", "encoder/audio=spectrogram"),
    ),
    Row(  # 8 * 4 patches and two tokens before them
        "encoder/audio",
        "transformers",
        (3, 32, 64),
        {"pooled": (3, DIM), "sequence": (3, 34, DIM), "mask": (3, 34)},
        {"model": f"{DATA}/audio_model", "weights": False},
        train=(
            f"data={DATA}/audio_folder.yaml",
            "encoder/audio=transformers",
            f"encoder.audio.model={DATA}/audio_model",
            "encoder.audio.weights=false",
        ),
    ),
    Row(
        "encoder/image",
        "timm",
        (2, 1, 28, 28),
        {"pooled": (2, DIM), "grid": (2, DIM, 1, 1)},
        {"model": "test_resnet", "weights": False},
        train=(
            f"data={DATA}/image_folder.yaml",
            "encoder/image=timm",
            "encoder.image.model=test_resnet",
            "encoder.image.weights=false",
        ),
    ),
    Row(
        "encoder/image",
        "efficientnet_lite0",
        (2, 1, 28, 28),
        {"pooled": (2, DIM), "grid": (2, DIM, 1, 1)},
        train=(f"data={DATA}/image_folder.yaml", "encoder/image=efficientnet_lite0"),
    ),
    Row(
        "encoder/text",
        "transformers",
        (3, 5),
        TEXT,
        {"model": f"{DATA}/text_model", "weights": False},
        train=TINY,
    ),
    Row("encoder/text", "minilm", (3, 5), TEXT),
    Row("encoder/text", "bag", (3, 5), TEXT),
    Row("encoder/text", "conv", (3, 5), TEXT),
    Row("encoder/text", "gru", (3, 5), TEXT),
    Row("encoder/text", "transformer", (3, 5), TEXT),
)

# given: an optimizer step; expected: weights of the backbone that train then. It is a transformer
# of width 16 with 85 + 32 + 2 embeddings and two blocks of 4 (16^2 + 16) + 2 * 16 * 32 + 32 + 16
# weights and two norms: 1,936 + 2 * 2,224
TUNINGS = (
    Row("tune", "full", 0, 6384, train=(*TINY, "encoder.text.tune=full")),
    Row("tune", "frozen", 0, 0, train=(*TINY, "encoder.text.tune=frozen")),
    Row("tune", "last_blocks", 0, 2224, train=(*TINY, "encoder.text.tune=last_blocks")),
    # in a block 4 * 16 + 32 + 16 and two norms' 16, and one norm after the embeddings
    Row("tune", "bitfit", 0, 2 * 144 + 16, train=(*TINY, "encoder.text.tune=bitfit")),
    Row(  # after three steps all but the embeddings, after six these too
        "tune",
        "gradual",
        5,
        4448,
        {"every": 3},
        train=(*TINY, "encoder.text.tune={name: gradual, every: 1}"),
    ),
    # r (in + out) of six layers in each block: 8 (4 * 32 + 2 * 48)
    Row("tune", "lora", 0, 2 * 1792, train=(*TINY, "encoder.text.tune=lora")),
    # and one length for each output: 4 * 16 + 32 + 16
    Row("tune", "dora", 0, 2 * (1792 + 112), train=(*TINY, "encoder.text.tune=dora")),
    Row(  # those of lora for each of two tasks, and half as many for both
        "tune",
        "task_lora",
        0,
        2 * (2 * 1792 + 896),
        {"shared_rank": 4},
        train=(*TINY, "encoder.text.tune={name: task_lora, shared_rank: 2}"),
    ),
)

SHOP_TASK = f"data={DATA}/tasks.yaml"

# given: shape of the images; expected: whether all of them look another way
AUGMENTATIONS = tuple(
    Row("augment", option, (5, 3, 16, 16), every, train=(f"data.image.augment={option}",))
    for option, every in (
        ("flip", False),
        ("flip_crop", False),
        ("photo", True),
        ("rand", False),
        ("trivial", False),
    )
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

# given: each modality's vectors and who has them; expected: the fused rows, W summing both
FUSIONS = (
    Row(
        "fusion",
        "concat",
        {"a": ([[1.0], [2.0]], [True, True]), "b": ([[10.0]], [False, True])},
        [[1.0], [12.0]],
        {"dim": 1},
        (SHOP_TASK,),
    ),
    Row(  # all gates are 1/2
        "fusion",
        "gated",
        {"a": ([[1.0], [2.0]], [True, True]), "b": ([[10.0]], [False, True])},
        [[math.tanh(1) / 2], [(math.tanh(2) + 1) / 2]],
        {"dim": 1},
        (SHOP_TASK, "fusion=gated"),
    ),
    Row(  # the norm of a single number is 0: nothing is added to the mean
        "fusion",
        "attention",
        {"a": ([[1.0], [2.0]], [True, True]), "b": ([[10.0]], [False, True])},
        [[0.5], [6.0]],
        {"dim": 1, "heads": 1},
        (SHOP_TASK, "fusion=attention"),
    ),
)

# given: (the models, their start); expected: the result. A model is {name: entries}, of which w is
# the weight of a layer (out, in); see tests.merging for the data that some methods look at
MERGINGS = (
    Row(
        "method",
        "average",
        ([{"w": [1, 2]}, {"w": [5, 2]}], None),
        {"w": [2, 2]},
        {"weights": [3, 1]},
    ),
    Row("method", "uniform_soup", ([{"w": [1, 2]}, {"w": [5, 2]}], None), {"w": [3, 2]}),
    # scores are -|w - 2|: 2.5 is best alone, with 1 it is 1.75, with 9 it would be worse
    Row("method", "greedy_soup", ([{"w": [1]}, {"w": [2.5]}, {"w": [9]}], None), {"w": [1.75]}),
    # from 3 a step of half the way to 1 gives 2, where the score is best
    Row("method", "layerwise", ([{"w": [1]}, {"w": [5]}], None), {"w": [2]}),
    Row(  # a right angle: sin 45 of each, whatever their lengths
        "method",
        "slerp",
        ([{"w": [1, 0]}, {"w": [0, 2]}], None),
        {"w": [math.sqrt(0.5), 2 * math.sqrt(0.5)]},
    ),
    Row(
        "method",
        "task_arithmetic",
        ([{"w": [2, 1]}, {"w": [1, 3]}], {"w": [1, 1]}),
        {"w": [1.5, 0]},
        {"scale": 0.5, "weights": [1, -1]},
    ),
    Row(  # trimmed (4, 0, 0, 3) and (-2, -3, 0, 0); the signs of their sum are + - 0 +
        "method",
        "ties",
        ([{"w": [4, -1, 0.5, 3]}, {"w": [-2, -3, 1, 0]}], {"w": [0, 0, 0, 0]}),
        {"w": [4, -3, 0, 3]},
        {"keep": 0.5, "scale": 1.0},
    ),
    Row(
        "method",
        "dare",
        ([{"w": [2]}, {"w": [4]}], {"w": [1]}),
        {"w": [3]},
        {"drop": 0.0, "scale": 0.5},
    ),
    # (w x - y) x = 1 and 2 on rows (1, 0) and (1, 1): F = 1 and 4
    Row("method", "fisher", ([{"w": [1]}, {"w": [3]}], None), {"w": [2.6]}),
    # G = 1 of either model's single row
    Row("method", "regmean", ([{"w": [1]}, {"w": [3]}], None), {"w": [2]}),
    Row(  # surer of class 0 the larger the coefficient: Adam's first step is lr
        "method",
        "adamerging",
        ([{"w": [[1], [-1]]}], {"w": [[0], [0]]}),
        {"w": [[0.31], [-0.31]]},
        {"steps": 1},
    ),
    Row(
        "method",
        "ensemble",
        ([{"w": [1]}, {"w": [2]}], None),
        {"members.0.w": [1], "members.1.w": [2]},
    ),
)

# given: nothing; expected: losses by task, and the rest
TRANSFERS = (
    Row("transfer", "none", None, ({}, None)),
    Row(
        "transfer",
        "init",
        None,
        ({}, None),
        {"source": "runs/a"},
        ("transfer=init", f"transfer.source={SOURCE}", READS_ALIKE),
    ),
    Row(  # at the start nothing has moved: beta / 2 of 0
        "transfer",
        "l2_sp",
        None,
        ({}, 0.0),
        {"source": "runs/a", "beta": 0.0},
        ("transfer=l2_sp", f"transfer.source={SOURCE}", READS_ALIKE),
    ),
    *(  # of a model that is its own source, and reads the same
        Row(
            "transfer",
            option,
            None,
            ({}, 0.0),
            {"source": "runs/a", **options},
            (f"transfer={option}", f"transfer.source={SOURCE}", READS_ALIKE, *extra),
        )
        for option, options, extra in (
            ("hints", {}, ()),
            ("attention_transfer", {"modalities": ["image"]}, ("transfer.modalities=[image]",)),
            ("relational", {}, ()),
            ("cka", {}, ()),
        )
    ),
    *(
        Row(
            "transfer",
            option,
            None,
            ({}, None),
            {"sources": {"a": "runs/a", "b": "runs/a"}},
            (f"transfer={option}", f"transfer.sources={{a: {SOURCE}, b: {SOURCE}}}", READS_ALIKE),
        )
        for option in ("source_attention", "weighted_fusion")
    ),
    Row(
        "transfer",
        "adaptors",
        None,
        ({"notes": 0.0, "shapes": 0.0}, None),
        {"teachers": {"notes": "runs/a", "shapes": "runs/a"}},
        (
            "transfer=adaptors",
            f"transfer.teachers={{digit: {SOURCE}, sentiment: {SOURCE}}}",
            READS_ALIKE,
        ),
    ),
    Row(  # the old task's answers are the source's at the start
        "transfer",
        "lwf",
        {"old": "notes"},
        ({"old": 0.0}, None),
        {"source": "runs/a"},
        (
            "transfer=lwf",
            f"transfer.source={SOURCE}",
            READS_ALIKE,
            "~data.tasks.sentiment",
            "~data.datasets.reviews",
            "+data.tasks.sentiment={type: classification, unlabelled: courses, "
            f"labels_of: {SOURCE}}}",
        ),
    ),
    *(  # the teacher is the student itself, from which it isn't apart
        Row(
            "transfer",
            name,
            None,
            ({"notes": 0.0, "shapes": 0.0}, None),
            {"teachers": "runs/a"},
            (f"transfer={name}", f"transfer.teachers={{digit: {SOURCE}, subject: {SOURCE}}}"),
        )
        for name in ("hinton", "decoupled", "dist")
    ),
    Row(
        "transfer",
        "annealed",
        None,
        ({"notes": 0.0, "shapes": 0.0}, None),
        {"method": {"name": "hinton", "teachers": "runs/a"}, "steps": 10},
        ("transfer=annealed", f"transfer.method={{name: hinton, teachers: {SOURCE}}}"),
    ),
    Row(
        "transfer",
        "fork_merge",
        None,
        ({}, None),
        {"targets": ["notes"], "every_n_steps": 1},
        ("transfer=fork_merge", "transfer.targets=[digit]", "transfer.every_n_steps=1"),
    ),
    Row(
        "transfer",
        "several",
        None,
        ({}, None),
        {"methods": {"no": {"name": "none"}}},
        ("transfer=several", "transfer.methods={no: {name: none}}"),
    ),
)

SHOP = {
    *("title", "photo", "sound", "price", "size", "category"),
    *("stars", "marks", "slots", "mask", "depth", "split"),
}


def shop(option: str, file: str, columns: set[str], **options: Any) -> Row:
    """A source that reads the shop of tests/data."""
    options = {"path": str(DATA / file), **options} if option != "hub" else options
    train = [f"data={DATA / option}.yaml"]
    train += [f"data.datasets.shop.source.repo={DATA / 'hub'}"] if option == "hub" else []
    return Row("source", option, None, (24, columns), options, train)


# given: nothing; expected: number of rows, and columns
SOURCES = (
    Row(
        "source",
        "quickstart",
        None,
        (60, {"review", "score", "part"}),
        {"name": "reviews", "rows": 60},
        ("data.datasets.mnist.source=quickstart",),
    ),
    shop("csv", "shop.csv", SHOP),
    shop("tsv", "shop.tsv", SHOP),
    shop("json", "shop.jsonl", SHOP),
    shop("parquet", "*.parquet", SHOP),
    shop("arrow", "shop.arrow", SHOP),
    shop("hub", "", SHOP, repo=str(DATA / "hub")),
    shop("image_folder", "photos", {"image", "label", "split"}),
    shop("audio_folder", "sounds", {"audio", "label", "split"}),
    shop(
        "npz",
        "shop.npz",
        {"photo", "kind", "length", "split", "tone"},
        lengths={"tone": "length"},
        names={"kind": "kinds"},
    ),
)

# given: evidence; expected: the score
SCORES = (
    Row(  # features that say nothing: y ~ N(0, 1), log N(1 | 0, 1)
        "score",
        "log_me",
        {"features": [[0.0], [0.0]], "labels": [[1.0], [-1.0]]},
        -(1 + math.log(2 * math.pi)) / 2,
    ),
    Row(  # S = S_z = 1, so S_a = 1
        "score",
        "h_score",
        {"features": [[-1.0], [-1.0], [1.0], [1.0]], "classes": [0, 0, 1, 1]},
        0.5,
        {"shrinkage": 0.5},
    ),
    Row(  # P(y | z): (2/3, 0) and (1/3, 1), so both rows have 2/3
        "score",
        "leep",
        {"probabilities": [[1.0, 0.0], [0.5, 0.5]], "classes": [0, 1]},
        math.log(2 / 3),
    ),
    Row(  # the features are the labels, in another unit
        "score",
        "cka",
        {
            "features": [[3.0, 0.0], [0.0, 3.0], [3.0, 0.0], [0.0, 3.0], [3.0, 0.0]],
            "reference": [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]],
        },
        1.0,
    ),
    Row("score", "tag", {"affinity": [0.1, 0.3]}, 0.2),
    Row("score", "gradient_cosine", {"cosine": [-1.0, 0.5]}, -0.25),
    Row("score", "size_parameters", {"parameters": 12}, 12.0),
    Row("score", "size_rows", {"rows": 3}, 3.0),
)

ROWS = (
    *BALANCERS,
    *SAMPLERS,
    *SCHEDULES,
    *OPTIMIZERS,
    *TRUNKS,
    *ENCODERS,
    *TUNINGS,
    *TASKS,
    *FUSIONS,
    *AUGMENTATIONS,
    *MERGINGS,
    *TRANSFERS,
    *SOURCES,
    *SCORES,
)


def rows(group: str) -> list[Row]:
    """The rows of a group, and of groups below it."""
    return [row for row in ROWS if row.group == group or row.group.startswith(f"{group}/")]


def ids(row: Row) -> str:
    return row.name
