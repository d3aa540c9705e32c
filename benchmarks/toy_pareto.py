"""Which starts reach the Pareto front of the two-parameter problem of Nash-MTL and FAMO.

    python -m benchmarks.toy_pareto [METHOD ...] [steps=50000] [lr=1e-3] [jobs=1] [output=FILE.png]
        [folder=FOLDER]

A way takes up to a minute; those in the folder are not gone again.

L1 is a tenth of a surface like L2's, so that their gradients differ in length as well as in
direction. A start has reached the front if it ends with x1 in [-7, 7] and |x2 + 8.38| <= 0.1.
Source of the problem: Navon et al. 2022, appendix B, and Liu et al. 2023 (FAMO), appendix.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.shared_gradients import ParameterGradients
from lightning_modules.building import build_balancer
from pipeline.configuration.composition import load_yaml
from pipeline.configuration.groups import SHIPPED, options
from pollinate.files import replacing

Array = NDArray[np.float64]
# there is no slope at (0, 0): hence -1e-3
STARTS = ((-8.5, 7.5), (0.0, -1e-3), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
TASKS = ("L1", "L2")
REST = 50  # points, 5,000 steps
SCALE = 0.1
LEAST = 5e-6
IDEAL = {"L1": -2.1, "L2": -21.0}  # below anything that the losses reach
# both losses turn negative, which these methods don't allow, or know only by what can be reached
OPTIONS: dict[str, dict[str, Any]] = {
    "famo": {"ideal": IDEAL, "decay": 0.0},
    "smooth_tchebycheff": {"ideal": IDEAL},
    "pbi": {"ideal": IDEAL},
    "krum": {"outliers": 0},
}
SHIFTED = ("geometric_mean", "log_loss", "db_mtl", "uncertainty", "imtl_l", "cosmos", "gradnorm")


def surfaces(x: Array, y: Array) -> tuple[Array, Array]:
    """Return L1 and L2 at points, and their derivatives by x and y: (2, ...), (2, 2, ...)."""
    above, below = np.tanh(0.5 * y).clip(min=0), np.tanh(-0.5 * y).clip(min=0)  # c1, c2
    half = 0.5 - 0.5 * np.tanh(0.5 * y) ** 2
    steep = 1 - np.tanh(y) ** 2
    inner = np.stack([0.5 * (-x - 7) + np.tanh(y), 0.5 * (-x + 3) - np.tanh(y) + 2])
    far = np.abs(inner) > LEAST
    hills = np.log(np.maximum(np.abs(inner), LEAST)) + 6
    inverse = np.where(far, 1 / np.where(far, inner, 1), 0)
    hills_by = np.stack([-0.5 * inverse, inverse * np.stack([steep, -steep])], axis=1)
    aside = np.stack([x - 7, x + 7])
    valleys = (aside**2 + 0.1 * (y + 8) ** 2) / 10 - 20
    valleys_by = np.stack([aside / 5, np.broadcast_to((y + 8) / 50, aside.shape)], axis=1)
    values = hills * above + valleys * below
    cotangents = hills_by * above + valleys_by * below
    cotangents[:, 1] += hills * half * (y > 0) - valleys * half * (y < 0)
    values[0] *= SCALE
    cotangents[0] *= SCALE
    return values, cotangents


def at_point(x: float, y: float) -> tuple[list[float], list[list[float]]]:
    """Return what ``surfaces`` does, at one point, many times as fast: (2,), (2, 2)."""
    half_tanh, tanh = math.tanh(0.5 * y), math.tanh(y)
    above, below = max(half_tanh, 0.0), max(-half_tanh, 0.0)
    half, steep = 0.5 - 0.5 * half_tanh**2, 1 - tanh**2
    values, slopes = [], []
    for sign, shift, scale in ((1, -7, SCALE), (-1, 7, 1.0)):
        inner = 0.5 * (-x + (-7 if sign > 0 else 3)) + sign * tanh + (0 if sign > 0 else 2)
        inverse = 1 / inner if abs(inner) > LEAST else 0.0
        hill = math.log(max(abs(inner), LEAST)) + 6
        valley = ((x + shift) ** 2 + 0.1 * (y + 8) ** 2) / 10 - 20
        by_x = -0.5 * inverse * above + (x + shift) / 5 * below
        by_y = sign * inverse * steep * above + (y + 8) / 50 * below
        by_y += hill * half * (y > 0) - valley * half * (y < 0)
        values.append(scale * (hill * above + valley * below))
        slopes.append([scale * by_x, scale * by_y])
    return values, slopes


class Surfaces(torch.autograd.Function):
    """L1 and L2 at x (2,), in one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        (first, second), slopes = at_point(*x.tolist())
        ctx.cotangents = torch.tensor(slopes)
        return torch.tensor(first), torch.tensor(second)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Return the combined slope: (2,)."""
        return torch.stack(grads) @ ctx.cotangents


def losses(x: Tensor) -> dict[str, Tensor]:
    """Return L1 and L2 at x (2,)."""
    return dict(zip(TASKS, Surfaces.apply(x), strict=True))


def reached(x: Tensor) -> bool:
    """Say whether x (2,) lies on the front."""
    return bool(-7 <= x[0] <= 7 and (x[1] + 8.38).abs() <= 0.1)


def path(name: str, start: tuple[float, float], steps: int, lr: float) -> Tensor:
    """Return every hundredth point of a method's way from a start: (n, 2)."""
    torch.set_num_threads(1)
    x = torch.tensor(start, requires_grad=True)
    balancer = method(name)
    shared = ParameterGradients([x])
    optimizer = torch.optim.Adam([x, *balancer.parameters()], lr=lr, fused=True)
    points = [x.detach().clone()]
    for step in range(steps):
        optimizer.zero_grad()
        balancer.begin_epoch(step // 100)
        balancer.backward(given(name, x), shared)
        optimizer.step()
        if balancer.needs_losses_after_step:
            with torch.no_grad():
                balancer.after_step(given(name, x))
        if step % 100 == 99:
            points.append(x.detach().clone())
            if ended(points):
                break
    return torch.stack(points)


def kept_path(folder: str, name: str, start: tuple[float, float], steps: int, lr: float) -> Tensor:
    """Return the way from the folder, if it is there; else go it, and leave it there."""
    file = Path(folder, f"{name}-{start[0]:g}-{start[1]:g}-{steps}-{lr:g}.npy")
    if not folder or not file.exists():
        points = path(name, start, steps, lr)
        if folder:
            with replacing(file) as temporary, temporary.open("wb") as stream:
                np.save(stream, points.numpy())
        return points
    return torch.from_numpy(np.load(file))


def ended(points: Sequence[Tensor]) -> bool:
    """Say whether a way has come to rest on the front; elsewhere it may still get away.

    At less than 0.001 in 5,000 steps, 50,000 steps more would change it by 0.01 at most.
    """
    if len(points) <= REST + 10 or not all(map(reached, points[-REST:])):
        return False
    now, before = torch.stack(points[-10:]), torch.stack(points[-REST - 10 : -REST])
    return bool((now.mean(dim=0) - before.mean(dim=0)).abs().max() < 0.001)


def given(name: str, x: Tensor) -> dict[str, Tensor]:
    """Return the losses; above 0 for methods that need it."""
    found = losses(x)
    return {t: found[t] - IDEAL[t] for t in TASKS} if name in SHIFTED else found


def method(name: str) -> Balancer:
    node = {**shipped(name), **OPTIONS.get(name, {})}
    if "seed" in node:
        node["seed"] = 0
    if name == "cr_mogm":
        node["method"] = shipped("mgda")
    return build_balancer({"balancer": node, "allow_targets": ()}, TASKS)


def shipped(name: str) -> dict[str, Any]:
    """Return a balancer's shipped options; what refers to the run's configuration stays so."""
    found: Any = OmegaConf.to_container(load_yaml(SHIPPED / "balancer" / f"{name}.yaml"))
    return dict(found)


def draw(paths: dict[str, list[Tensor]], file: Path) -> None:
    from matplotlib.figure import Figure

    side = np.linspace(-10, 10, 161)
    height = surfaces(*np.meshgrid(side, side))[0].sum(axis=0)
    columns = 6
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.5 * rows), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, found) in zip(axes, paths.items(), strict=False):
        axis.contourf(side, side, height, levels=24, cmap="Greys_r", alpha=0.6)
        axis.plot([-7, 7], [-8.38, -8.38], color="#1a7f37", linewidth=3)
        for points in found:
            good = reached(points[-1])
            axis.plot(*points.T, color="#1f6feb" if good else "#d1480f", linewidth=1.2)
            axis.plot(*points[0], "o", color="black", markersize=3)
            axis.plot(*points[-1], "*", color="#1f6feb" if good else "#d1480f", markersize=8)
        axis.set(xlim=(-10, 10), ylim=(-10, 10))
        score = sum(reached(points[-1]) for points in found)
        axis.set_title(f"{name}: {score} of {len(found)}", fontsize=9)
    figure.savefig(file, dpi=130)


def main(arguments: Sequence[str]) -> None:
    named = dict(a.split("=") for a in arguments if "=" in a)
    names = [a for a in arguments if "=" not in a] or options("balancer", [SHIPPED])
    steps, lr = int(named.get("steps", 50_000)), float(named.get("lr", 1e-3))
    folder = named.get("folder", "")
    table = Table("method", *(str(start) for start in STARTS), "reached")
    paths: dict[str, list[Tensor]] = {}
    console = Console(width=140)
    with ProcessPoolExecutor(int(named.get("jobs", 1)), get_context("spawn")) as pool:
        ways = {
            name: [pool.submit(kept_path, folder, name, start, steps, lr) for start in STARTS]
            for name in names
        }
        for name in names:
            paths[name] = [way.result() for way in ways[name]]
            ends = [points[-1] for points in paths[name]]
            cells = [f"{x[0]:.2f}, {x[1]:.2f}{' *' if reached(x) else ''}" for x in ends]
            table.add_row(name, *cells, f"{sum(map(reached, ends))} of {len(STARTS)}")
            console.print(name, *cells)
    console.print(table)
    draw(paths, Path(named.get("output", "toy_pareto.png")))


if __name__ == "__main__":
    main(sys.argv[1:])
