"""Balancers of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.balancers.base import Balancer
from lightning_modules.building import build_balancer
from tests.rows.row import Row


def build(row: Row, tasks: Sequence[str]) -> Balancer:
    """The row's balancer, as a run builds it."""
    return build_balancer({"balancer": row.node(), "allow_targets": ()}, list(tasks))
