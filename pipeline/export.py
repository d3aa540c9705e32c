"""Write a task's adapter, or the encoder with the adapter merged in, for other libraries."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.command import CommandArguments, CommandResult, entry_points


@dataclass(kw_only=True)
class ExportResult(CommandResult):
    """folder: with the files for other libraries."""

    folder: Path


def run(config: Mapping[str, Any], _: CommandArguments) -> ExportResult:
    from pipeline.exporting import check_output_folder, fill_atomically
    from pipeline.find_checkpoint import find_checkpoint

    output = Path(config["output"]).absolute()
    check_output_folder(output, config["overwrite"])
    checkpoint = find_checkpoint(config["checkpoint"], config["uri"])
    # imported here: torch takes seconds, and a wrong folder needs none
    from lightning_modules.predictor import Predictor
    from pipeline.command import silence_libraries
    from pipeline.exporting import find_adapted_encoders, write_encoders
    from pipeline.terminal import say
    from pollinate.console import new_console

    silence_libraries()
    predictor = Predictor.load(checkpoint, config["allow_targets"])
    merge = config["merge"]
    found = find_adapted_encoders(predictor, config["task"], config["modality"], merge)
    with fill_atomically(output) as folder:
        lines = write_encoders(found, folder, merge)
    for one, line in zip(found, lines, strict=True):
        say(new_console(), f"{line} -> {output if len(found) == 1 else output / one.task}")
    return ExportResult(folder=output)


call, main = entry_points("export", run)

if __name__ == "__main__":
    sys.exit(main())
