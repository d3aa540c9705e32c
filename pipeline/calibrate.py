"""Calibrate a trained model on the validation rows of its data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, CommandResult, entry_points

if TYPE_CHECKING:  # it imports torch
    from pipeline.calibration import Calibration


@dataclass(kw_only=True)
class CalibrateResult(CommandResult):
    """calibration: what it is; checkpoint: that has it."""

    calibration: Calibration
    checkpoint: Path


def run(config: Mapping[str, Any], _: CommandArguments) -> CalibrateResult:
    """Calibrate, write the checkpoint, print a table."""
    from pipeline.calibration import calibration_table
    from pipeline.calibration_run import calibrate_checkpoint, check_calibrated
    from pipeline.command import silence_libraries
    from pipeline.find_checkpoint import find_checkpoint
    from pipeline.terminal import say
    from pollinate.console import new_console

    silence_libraries()
    console = new_console()
    checkpoint = find_checkpoint(config["checkpoint"], config["uri"])
    output = check_calibrated(config["output"], checkpoint, config["overwrite"])
    options = config["coverage"], config["batch_size"], config["allow_targets"]
    found = calibrate_checkpoint(checkpoint, output, *options, console)
    console.print(calibration_table(found.summary()))
    say(console, f"wrote the calibration into {output}")
    return CalibrateResult(calibration=found, checkpoint=output)


call, main = entry_points("calibrate", run)

if __name__ == "__main__":
    sys.exit(main())
