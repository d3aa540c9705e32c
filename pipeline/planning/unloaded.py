"""The model of a configuration, built without loading or drawing weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from datamodules.mixed import MixedDataModule
from lightning_modules.multitask import MultiTaskModule
from pipeline.build import build_balancer, build_datamodule, build_module
from pipeline.planning.cost import Estimate
from pipeline.planning.pretend import unchanged_draws
from pipeline.planning.setting import setting_of


def estimate_of(config: Mapping[str, Any]) -> Estimate:
    """Return what tells the cost of a configuration's run.

    Raises:
        PollinateError: the data can't be read, the setting isn't known, or a run would be refused.
    """
    setting = setting_of(config)
    data = build_datamodule(config)
    data.setup()
    module = without_weights(config, data)
    strategy = config["trainer"].get("strategy") or "auto"
    module.meeting.choose(f"trainer={strategy}", not setting.sharded, setting.sharded)
    return Estimate(module, data, setting)


def without_weights(config: Mapping[str, Any], data: MixedDataModule) -> MultiTaskModule:
    """Return the module with shapes alone, or with weights from scratch where that can't be."""
    try:
        with torch.device("meta"):
            module = build_module(config, data, load=False)
    except (NotImplementedError, RuntimeError):
        # some networks look at numbers while they are built
        with unchanged_draws():
            return build_module(config, data, load=False)
    # what a balancer keeps is found with real numbers
    module.balancer = module.meeting.balancer = build_balancer(config, list(data.tasks))
    return module
