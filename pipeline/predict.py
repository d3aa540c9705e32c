"""Predict for the rows of a file, or for a folder of images."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.command import CommandArguments, CommandResult, entry_points

DOUBT = ("coverage", "per_class", "parts", "dropout")  # what is wanted beside the answers
READER = ("delimiter", "quote", "encoding", "empty", "folder")  # how the input is read


@dataclass(kw_only=True)
class PredictResult(CommandResult):
    """file: with the predictions."""

    file: Path


def run(config: Mapping[str, Any], _: CommandArguments) -> PredictResult:
    from pipeline.find_checkpoint import find_checkpoint
    from pipeline.prediction.decoding import checked_decoding
    from pipeline.prediction.input_files import ReaderOptions, check_input, open_input
    from pipeline.prediction.output_files import check_output

    source, output = Path(config["input"]), Path(config["output"])
    decoding = checked_decoding(config["decoding"])
    check_input(source)
    check_output(output, source, config["overwrite"])
    checkpoint = find_checkpoint(config["checkpoint"], config["uri"])
    # imported here: torch takes seconds, and a wrong file needs none
    from datamodules.inputs import columns_named
    from lightning_modules.predictor import Predictor
    from lightning_modules.trust.doubts import DoubtOptions
    from pipeline.command import silence_libraries
    from pipeline.prediction.inputs import trained_readings
    from pipeline.prediction.predict_file import PredictOptions, predict_file
    from pipeline.terminal import say
    from pollinate.console import new_console

    silence_libraries()
    predictor = Predictor.load(checkpoint, config["allow_targets"])
    predictor.write_with(decoding)
    reader = ReaderOptions(**{name: config[name] for name in READER})
    trained = trained_readings(predictor.inputs, predictor.readings)
    named = [name for given in config["columns"].values() for name in columns_named(given)]
    opened = open_input(source, reader, trained, [*named, *predictor.modality_names])
    console = new_console()
    if opened.note:
        say(console, opened.note)
    options = PredictOptions(
        config["tasks"],
        config["columns"],
        config["batch_size"],
        config["on_bad_row"] == "error",
        config["overwrite"],
        DoubtOptions(**{name: config[name] for name in DOUBT}, **config["abstain"]),
    )
    predict_file(predictor, opened.rows, output, options, console)
    return PredictResult(file=output.absolute())


call, main = entry_points("predict", run)

if __name__ == "__main__":
    sys.exit(main())
