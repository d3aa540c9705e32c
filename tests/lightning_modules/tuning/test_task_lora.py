"""Adapters of each task, in one pass: against peft, a pass for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.cnn import CNN
from lightning_modules.encoders.timm_image import TimmImage
from lightning_modules.encoders.transformer import Transformer
from lightning_modules.encoders.transformers_audio import TransformersAudio
from lightning_modules.encoders.transformers_text import TransformersText
from lightning_modules.routing import RowAssignment
from lightning_modules.tuning.lora import LoRA
from lightning_modules.tuning.peft_adapters import LowRankTuning
from lightning_modules.tuning.routed_adapters import routed_layers
from lightning_modules.tuning.task_lora import TaskLoRA
from pollinate.errors import UsageError
from tests import models
from tests.extras import needs
from tests.rows.row import DATA

pytestmark = needs("transformers", "timm", "peft")

TASKS = ("a", "b", "c")
SHARES = (("a", 2), ("b", 1), ("a", 1))  # none of c


def text(**options: Any) -> TransformersText:
    torch.manual_seed(0)
    return TransformersText(85, 8, str(DATA / "text_model"), weights=False, **options)


def gpt2(folder: Any) -> TransformersText:
    torch.manual_seed(0)
    return TransformersText(300, 8, str(models.gpt2(folder)), weights=False)


def audio() -> TransformersAudio:
    torch.manual_seed(0)
    return TransformersAudio(64, 8, str(DATA / "audio_model"), weights=False)


def picture(model: str, **options: Any) -> TimmImage:
    torch.manual_seed(0)
    return TimmImage(3, 8, model, weights=False, **options)


def windows() -> TimmImage:
    """A network that cuts pictures into windows: a row becomes several."""
    known = {
        "architecture": "swin_tiny_patch4_window7_224",
        "arguments": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "window_size": 4},
        "fixed": True,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    return picture("swin", size=[32, 32], assets=known)


def tokens(rows: int) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.randint(1, 80, (rows, 7), generator=draws)


def pixels(rows: int, side: int = 32) -> Tensor:
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1))


def sounds(rows: int) -> Tensor:
    return torch.randn(rows, 32, 64, generator=torch.Generator().manual_seed(1))


ENCODERS: dict[str, tuple[Callable[[], Encoder], Callable[[int], Tensor]]] = {
    "bert": (text, tokens),
    "audio": (audio, sounds),
    "resnet": (lambda: picture("test_resnet"), pixels),
    "vit": (lambda: picture("test_vit"), lambda rows: pixels(rows, 160)),
    "swin": (windows, pixels),
    "transformer": (lambda: Transformer(80, 16), tokens),
    "cnn": (lambda: CNN(3, 8), pixels),
}


class Blocks(Encoder):
    """Blocks that no row goes through."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, inputs: Tensor) -> Any:
        raise NotImplementedError


class Odd(nn.Module):
    """No layer of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))


def adapted(encoder: Encoder, tuning: LowRankTuning, tasks: Sequence[str] = TASKS) -> Encoder:
    """An encoder whose adapters do something."""
    tuning.apply(encoder, tasks)
    draws = torch.Generator().manual_seed(2)
    for parameter in encoder.tuned_part().parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draws))
    return encoder.eval()


def plain(encoder: Encoder, routed: Encoder, task: str, tuning: LoRA) -> Encoder:
    """peft's adapters with the weights of one task's."""
    tuning.apply(encoder, TASKS)
    own = dict(encoder.tuned_part().named_parameters())
    with torch.no_grad():
        for name, _, adapters in routed_layers(routed.tuned_part()):
            own[f"{name}.lora_A.default.weight"].copy_(adapters.own[task].down.weight)
            own[f"{name}.lora_B.default.weight"].copy_(adapters.own[task].up.weight)
    return encoder.eval()


def gradients(encoder: Encoder, task: str) -> dict[str, Tensor | None]:
    """{layer: gradients of a task's A and B}."""
    return {
        f"{name}.{side}": adapters.own[task].get_submodule(part).weight.grad
        for name, _, adapters in routed_layers(encoder.tuned_part())
        for side, part in (("lora_A", "down"), ("lora_B", "up"))
    }


@pytest.mark.parametrize("kind", ENCODERS)
def test_equals_a_pass_of_peft_for_each_task(kind: str) -> None:
    build, inputs = ENCODERS[kind]
    torch.manual_seed(0)
    base = build()
    routed = adapted(deepcopy(base), TaskLoRA(rank=2, alpha=3.0))
    rows = inputs(4)
    found = routed.routing.call(routed, rows, SHARES).pooled
    found.square().sum().backward()
    own = {"a": rows[[0, 1, 3]], "b": rows[[2]]}
    for task, mine in own.items():
        oracle = plain(deepcopy(base), routed, task, LoRA(rank=2, alpha=3.0))
        wanted = oracle(mine).pooled
        places = [0, 1, 3] if task == "a" else [2]
        torch.testing.assert_close(found[places], wanted, atol=1e-5, rtol=1e-5)
        wanted.square().sum().backward()
        theirs = dict(oracle.tuned_part().named_parameters())
        for name, gradient in gradients(routed, task).items():
            there = theirs[f"{name}.default.weight"].grad
            torch.testing.assert_close(gradient, there, atol=1e-5, rtol=1e-4)
    assert all(gradient is None for gradient in gradients(routed, "c").values())


def test_the_layers_of_gpt2_are_transposed(tmp_path: Any) -> None:
    base = gpt2(tmp_path)
    routed = adapted(deepcopy(base), TaskLoRA(rank=2))
    found = routed.routing.call(routed, tokens(3), (("a", 1), ("b", 2))).pooled
    with pytest.warns(UserWarning, match="fan_in_fan_out"):
        oracle = plain(base, routed, "b", LoRA(rank=2))
    torch.testing.assert_close(found[1:], oracle(tokens(3)[1:]).pooled, atol=1e-5, rtol=1e-5)


def test_the_equation_by_hand() -> None:
    encoder = Blocks(*(nn.Linear(2, 2, bias=False) for _ in range(2)))
    TaskLoRA(rank=1, alpha=3.0, targets=["0"], shared_rank=2).apply(encoder, TASKS)
    layer, adapters = encoder.blocks[0], encoder.blocks[0].adapters
    values = {
        layer.weight: [[1.0, 0.0], [0.0, 1.0]],
        adapters.shared.down.weight: [[1.0, 0.0], [0.0, 1.0]],
        adapters.shared.up.weight: [[1.0, 0.0], [0.0, 0.0]],
        adapters.own["b"].down.weight: [[1.0, 1.0]],
        adapters.own["b"].up.weight: [[0.0], [2.0]],
    }
    for parameter, value in values.items():
        parameter.data = torch.tensor(value)
    encoder.routing.now = RowAssignment.of((("a", 1), ("b", 1)))
    rows = torch.tensor([[1.0, 10.0], [1.0, 10.0]])
    # x + 3 / 2 (x_0, 0), and for b + 3 (0, 2 (x_0 + x_1)); B of a is still 0
    assert layer(rows).tolist() == [[2.5, 10.0], [2.5, 76.0]]


def test_optimizers_leave_absent_tasks_alone() -> None:
    encoder = adapted(text(), TaskLoRA(rank=2, shared_rank=2))
    optimizer = AdamW((p for p in encoder.parameters() if p.requires_grad), weight_decay=0.5)
    before = {}
    for shares in ((("a", 2), ("c", 2)), (("a", 3), ("b", 1))):  # momentum of c, then none of it
        before = {k: v.clone() for k, v in encoder.state_dict().items()}
        optimizer.zero_grad()
        encoder.routing.call(encoder, tokens(4), shares).pooled.sum().backward()
        optimizer.step()
    same = {k for k, v in encoder.state_dict().items() if torch.equal(v, before[k])}
    moved = before.keys() - same
    assert {name for name in before if ".own.c." in name} <= same
    for part in (".own.a.", ".own.b.", ".shared."):
        assert {name for name in before if part in name} <= moved
    assert not any("adapters" not in name for name in moved if name.startswith("network"))


def test_dropout_is_that_of_the_seed() -> None:
    encoder = adapted(text(), TaskLoRA(dropout=0.5))
    encoder.network.eval()
    for _, _, adapters in routed_layers(encoder.network):
        adapters.train()

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return encoder.routing.call(encoder, tokens(2), (("a", 1), ("b", 1))).pooled

    assert torch.equal(run(0), run(0))
    assert not torch.allclose(run(0), run(1))
    encoder.eval()
    assert torch.equal(run(0), run(1))


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_checkpointing_finds_the_rows_of_its_own_call(kind: str) -> None:
    """Two calls before one backward, which computes both again."""
    inputs = ENCODERS[kind][1](3)
    found: list[dict[str, Tensor | None]] = []
    for checkpointing in (False, True):
        build = {"bert": text, "vit": partial(picture, "test_vit")}[kind]
        built = adapted(build(checkpointing=checkpointing), TaskLoRA(rank=2)).train()
        for module in built.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        calls = [
            built.routing.call(built, inputs, shares).pooled.square().sum()
            for shares in ((("a", 3),), (("b", 2), ("a", 1)))
        ]
        torch.stack(calls).sum().backward()
        found.append(
            gradients(built, "a") | {f"b.{k}": v for k, v in gradients(built, "b").items()}
        )
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-6, rtol=1e-4)


def test_no_rows_reach_what_is_shared() -> None:
    """Another process may have the rows: the same parameters must be reached."""
    encoder = adapted(text(), TaskLoRA(rank=2, shared_rank=2))
    empty = encoder.routing.call(encoder, tokens(0), (("a", 0),))
    assert empty.pooled.shape == (0, 8)
    empty.pooled.sum().backward()
    reached = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert any(".shared." in name for name in reached)
    assert not any(".own." in name for name in reached)


def test_an_assignment_by_hand() -> None:
    found = RowAssignment.of([("b", 2), ("a", 1), ("c", 0), ("b", 1)])
    assert found.shares == [("b", 2), ("a", 1), ("b", 1)]
    assert (found.tasks, found.places.tolist()) == (("b", "a"), [0, 0, 1, 0])


def test_errors() -> None:
    with pytest.raises(UsageError, match=r"tune.rank must be >= 1 .* got 0 and 0.0"):
        TaskLoRA(rank=0)
    with pytest.raises(UsageError, match=r"tune.shared_rank must be >= 0, .* got -1"):
        TaskLoRA(shared_rank=-1)
    with pytest.raises(UsageError, match=r"got project; there are dense, key, query, value\. What"):
        TaskLoRA(targets=["query", "project"]).apply(text(), TASKS)
    encoder = adapted(text(), TaskLoRA())
    with pytest.raises(UsageError, match=r"layers that see row by row, .* for 3 rows"):
        encoder.routing.call(encoder, tokens(4), (("a", 3),))
    with pytest.raises(
        UsageError, match=r"need linear layers or convolutions in blocks, there are"
    ):
        TaskLoRA().apply(Blocks(Odd(), Odd()), TASKS)
