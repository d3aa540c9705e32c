"""Which parts of a module are called."""

from __future__ import annotations

import torch

from lightning_modules.called import called_parts


def test_parts_are_found_in_lists_and_dicts() -> None:
    one, other = torch.nn.Linear(1, 1), torch.nn.Sequential(torch.nn.Linear(1, 1))
    net = torch.nn.Module()
    net.layers = torch.nn.ModuleList([torch.nn.ModuleDict({"a": one}), other])
    net.gates = torch.nn.ParameterDict({"a": torch.zeros(1)})
    assert list(called_parts(net)) == [one, other]
