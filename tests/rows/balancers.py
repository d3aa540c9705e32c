"""Rows of balancers."""

from __future__ import annotations

import math

from tests.rows.row import Row

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
    # 2 sqrt(2 * 8) = 8; w = 8 / (2 * L)
    Row("balancer", "geometric_mean", {"a": 2.0, "b": 8.0}, (8.0, {"a": 2.0, "b": 0.5})),
    Row("balancer", "log_loss", {"a": 2.0, "b": 8.0}, (math.log(16), {"a": 0.5, "b": 0.125})),
    Row(  # p (L - z) = 4, 4: twice the maximum plus mu ln 2
        "balancer",
        "smooth_tchebycheff",
        {"a": 2.0, "b": 5.0},
        (8 + math.log(2), {"a": 2.0, "b": 1.0}),
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
    Row(  # above z = (3, 1), p = (1, 1): d_1 = 4 / sqrt 2, the rest (1, -1), times sqrt 2
        "balancer",
        "pbi",
        {"a": 3.0, "b": 2.0},
        (6.0, {"a": 2.0, "b": 0.0}),
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
V = 0.5 + math.sqrt(0.5)
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
    # h = (2, 0) / 2 and (-1, 1) / sqrt 2: x = h_a + v h_b with h_b . x = 0.5, v = 0.5 + sqrt(1/2)
    Row(
        "balancer",
        "pcd",
        CONFLICT,
        [
            1 / math.sqrt(1 + V * V - math.sqrt(2) * V),
            math.sqrt(2) * V / math.sqrt(1 + V * V - math.sqrt(2) * V),
        ],
        {"tau": 0.5},
    ),
    Row("balancer", "random_gradient", [[4.0]], [1.0]),  # drawn, but they sum up to T
)

# given: the gradients of the tasks a, b, ...; expected: the combined one
JACOBIAN_BALANCERS = (
    Row("balancer", "graddrop", [[1.0, -2.0], [3.0, -2.0]], [4.0, -4.0]),  # signs agree
    Row("balancer", "trimmed_mean", [[1.0, 5.0], [2.0, 6.0], [9.0, -9.0]], [6.0, 15.0]),
    # Y Y^T / its mean = diag(1.6, 0.4): v = (0.42, 0.48) + 0.05
    Row("balancer", "moco", [[2.0, 0.0], [0.0, 1.0]], [1.88, 1.06]),
    Row("balancer", "db_mtl", [[2.0, 0.0], [0.0, 1.0]], [2.0, 2.0]),  # both as long as g_a
    Row("balancer", "modo", [[2.0, 0.0], [0.0, 1.0]], [2.0, 1.0]),  # before it learns
    Row("balancer", "stochastic_sdmgrad", [[2.0, 0.0], [0.0, 1.0]], [2.0, 1.0]),  # as well
    Row("balancer", "excess_mtl", [[2.0, 0.0], [0.0, 1.0]], [2.0, 1.0]),  # before it learns
    Row("balancer", "auto_lambda", [[2.0, 0.0], [0.0, 1.0]], [2.0, 1.0]),  # before it learns
)
BALANCERS = (*LOSS_BALANCERS, *GRAMIAN_BALANCERS, *JACOBIAN_BALANCERS)
