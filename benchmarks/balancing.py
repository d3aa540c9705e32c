"""Time and memory of balancing against the plain multi-task step, and against TorchJD.

    python -m benchmarks.balancing [rounds=7] [steps=6] [tasks=3,8] [nets=mlp,cnn,transformer]
                                   [rows=N]

Every way does one whole training step on the same rows: forward, backward, SGD. Aligned-MTL is the
method of all of them, whose solver costs next to nothing. The ways take turns within a round; the
medians over the rounds of the ratios to the plain step of the same round are printed, with the
memory that a process of its own gains at its peak. ``rows`` are those of one task.

  features     ours: gradients of what the heads read, all tasks on the same rows
  parameters   ours: gradients of the shared parameters, all tasks on the same rows
  jd all       TorchJD, all tasks in one vectorised backward
  jd one       TorchJD, one task after the other
  jd gramian   TorchJD, the Gramian by its engine, then a weighted backward
  disjoint     ours: parameters, each task on rows of its own
"""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchjd.aggregation import AlignedMTL as JDAlignedMTL
from torchjd.aggregation import AlignedMTLWeighting
from torchjd.autogram import Engine
from torchjd.autojac import jac_to_grad, mtl_backward

from lightning_modules.balancers.aligned_mtl import AlignedMTL
from lightning_modules.balancers.shared_gradients import FeatureGradients, ParameterGradients

CLASSES = 10
DIM = 128


class Transformer(nn.Module):
    """Two layers on 32 tokens, and their mean: (N, 32) -> (N, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(1000, DIM)
        layers = (nn.TransformerEncoderLayer(DIM, 4, 512, 0.0, batch_first=True) for _ in range(2))
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: Tensor) -> Tensor:
        features: Tensor = self.layers(self.tokens(rows)).mean(dim=1)
        return features


def mlp(count: int) -> tuple[nn.Module, Tensor]:
    """2.6 million weights on rows of 784 numbers."""
    sizes = (784, 1024, 1024, 640)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(640, DIM)), torch.randn(count, 784)


def cnn(count: int) -> tuple[nn.Module, Tensor]:
    """0.26 million weights on pictures of 32 x 32."""
    sizes = (3, 32, 64, 128)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(8, b), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, DIM)), torch.randn(count, 3, 32, 32)


def transformer(count: int) -> tuple[nn.Module, Tensor]:
    """0.53 million weights on texts of 32 tokens."""
    return Transformer(), torch.randint(0, 1000, (count, 32))


NETS = {"mlp": mlp, "cnn": cnn, "transformer": transformer}
ROWS = {"mlp": 128, "cnn": 32, "transformer": 32}  # for each task


class Problem:
    """A network, its heads and one batch; ``step`` methods are the ways to train on it."""

    def __init__(self, net: str, count: int, rows: int) -> None:
        # of TorchJD's vmap
        warnings.filterwarnings("ignore", message="There is a performance drop")
        torch.manual_seed(0)
        self.trunk, self.rows = NETS[net](count * rows)
        self.tasks = [f"t{number}" for number in range(count)]
        self.heads = nn.ModuleDict({t: self._head() for t in self.tasks})
        self.targets = {t: torch.randint(0, CLASSES, (len(self.rows),)) for t in self.tasks}
        self.balancer = AlignedMTL(self.tasks)
        self.shared = ParameterGradients(self.trunk.parameters())
        self.hooked = copy.deepcopy(self.trunk)  # an engine watches every forward of its module
        self.engine = Engine(self.hooked, batch_dim=None)
        parameters = [p for m in (self.trunk, self.hooked, self.heads) for p in m.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3)
        self.parts = torch.tensor_split(torch.arange(len(self.rows)), count)

    @staticmethod
    def _head() -> nn.Module:
        return nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, CLASSES))

    def _loss(self, task: str, features: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        return cross_entropy(self.heads[task](features), self.targets[task][rows])

    def plain(self) -> None:
        """Sum of the losses, all tasks on the same rows."""
        features = self.trunk(self.rows)
        torch.stack([self._loss(t, features) for t in self.tasks]).sum().backward()  # type: ignore[no-untyped-call]  # torch's is not annotated

    def features(self) -> None:
        cut, features = FeatureGradients(), self.trunk(self.rows)
        self.balancer.backward({t: self._loss(t, cut(t, features)) for t in self.tasks}, cut)

    def parameters(self) -> None:
        features = self.trunk(self.rows)
        self.balancer.backward({t: self._loss(t, features) for t in self.tasks}, self.shared)

    def torchjd(self, chunk: int | None) -> None:
        """TorchJD's Jacobian of the shared part."""
        features = self.trunk(self.rows)
        losses = [self._loss(t, features) for t in self.tasks]
        mtl_backward(losses, features=features, parallel_chunk_size=chunk)
        jac_to_grad(list(self.trunk.parameters()), JDAlignedMTL())

    def torchjd_gramian(self) -> None:
        """TorchJD's Gramian without a Jacobian; heads get weighted gradients, too."""
        features = self.hooked(self.rows)
        losses = torch.stack([self._loss(t, features) for t in self.tasks])
        losses.backward(AlignedMTLWeighting()(self.engine.compute_gramian(losses)))  # type: ignore[no-untyped-call]  # torch's is not annotated

    def plain_disjoint(self) -> None:
        """Sum of the losses, each task on its rows, the shared part on all rows at once."""
        features = self.trunk(self.rows)
        pairs = zip(self.tasks, self.parts, strict=True)
        torch.stack([self._loss(t, features[rows], rows) for t, rows in pairs]).sum().backward()  # type: ignore[no-untyped-call]  # torch's is not annotated

    def disjoint(self) -> None:
        pairs = zip(self.tasks, self.parts, strict=True)
        losses = {t: self._loss(t, self.trunk(self.rows[rows]), rows) for t, rows in pairs}
        self.balancer.backward(losses, self.shared)

    def ways(self) -> dict[str, tuple[Callable[[], None], str]]:
        """Return {way: (what it does, the way that it is compared with)}."""
        return {
            "plain": (self.plain, "plain"),
            "features": (self.features, "plain"),
            "parameters": (self.parameters, "plain"),
            "jd all": (partial(self.torchjd, None), "plain"),
            "jd one": (partial(self.torchjd, 1), "plain"),
            "jd gramian": (self.torchjd_gramian, "plain"),
            "plain disjoint": (self.plain_disjoint, "plain disjoint"),
            "disjoint": (self.disjoint, "plain disjoint"),
        }

    def seconds(self, way: Callable[[], None], steps: int) -> float:
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            self.optimizer.zero_grad()
            way()
            self.optimizer.step()
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def ratios(problem: Problem, rounds: int, steps: int) -> dict[str, float]:
    """Return {way: median of its time over the plain step's}."""
    ways = problem.ways()
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        times = {way: problem.seconds(run, steps) for way, (run, _) in ways.items()}
        if number:  # the first round warms up
            for way, (_, base) in ways.items():
                found[way].append(times[way] / times[base])
    return {way: statistics.median(values) for way, values in found.items()}


def peak(net: str, count: int, rows: int, way: str) -> float:
    """Return the most memory, in MB, that a process of its own gains in three steps."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (net, count, rows, way))


def _peak(net: str, count: int, rows: int, way: str) -> float:
    problem = Problem(net, count, rows)
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's record of the peak starts anew
    before = _memory("VmRSS")
    problem.seconds(problem.ways()[way][0], 3)
    return (_memory("VmHWM") - before) / 1024


def _memory(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def main(arguments: Sequence[str]) -> None:
    given = dict(argument.split("=") for argument in arguments)
    rounds, steps = int(given.get("rounds", 7)), int(given.get("steps", 6))
    console = Console(width=120)
    for count in map(int, given.get("tasks", "3,8").split(",")):
        table = Table("net", "rows", title=f"{count} tasks: time over the plain step's, peak in MB")
        for net in given.get("nets", ",".join(NETS)).split(","):
            rows = int(given.get("rows", ROWS[net]))
            problem = Problem(net, count, rows)
            found = ratios(problem, rounds, steps)
            if not table.row_count:
                for way in found:
                    table.add_column(way, justify="right")
            memory = {way: peak(net, count, rows, way) for way in found}
            cells = [f"{ratio:.2f}\n{memory[way]:.0f}" for way, ratio in found.items()]
            table.add_row(net, str(count * rows), *cells)
        console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
