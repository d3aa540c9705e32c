"""Write a task's adapter, or the encoder with the adapter in its weights, for other programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return run_command("export", run, argv)


def run(config: Mapping[str, Any], _: Sequence[str]) -> None:
    """Check the output, then write, and say what."""
    from pipeline.exporting.folder import check_folder, filled
    from pipeline.locate import find_checkpoint

    output = Path(config["output"]).absolute()
    check_folder(output, config["overwrite"])
    checkpoint = find_checkpoint(config["checkpoint"], config["uri"])
    # imported here: torch takes seconds, and a wrong folder needs none
    from rich.console import Console

    from pipeline.exporting.adapted import find_adapted, write_adapter, write_merged
    from pipeline.prediction.predictor import Predictor
    from pipeline.quiet import quiet

    quiet()
    predictor = Predictor.load(checkpoint, config["allow_targets"])
    found = find_adapted(predictor, config["task"], config["modality"])
    with filled(output) as folder:
        text = write_merged(found, folder) if config["merge"] else write_adapter(found, folder)
    Console().print(f"{text} -> {output}", highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main())
