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
    from pipeline.exporting import find_adapted_encoder, write_adapter, write_merged
    from pipeline.terminal import say
    from pollinate.console import new_console

    silence_libraries()
    predictor = Predictor.load(checkpoint, config["allow_targets"])
    found = find_adapted_encoder(predictor, config["task"], config["modality"])
    with fill_atomically(output) as folder:
        text = write_merged(found, folder) if config["merge"] else write_adapter(found, folder)
    say(new_console(), f"{text} -> {output}")
    return ExportResult(folder=output)


call, main = entry_points("export", run)

if __name__ == "__main__":
    sys.exit(main())
