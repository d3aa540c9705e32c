"""Rows of optimizers."""

from __future__ import annotations

from tests.rows.row import Row

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
