"""A small decoder taught by a larger one, where few of the rows have an answer.

    python -m benchmarks.language_distillation [seeds=1] [first=0] [steps=400] [labels=100]
        [case=NAME ...]

The task is to sort the letters of a word: 4,000 words of six of eight letters for training, of
which all have an answer for the teacher and few for the student, 100 to choose the best checkpoint,
500 for testing. Both are decoders of the Llama kind from scratch: two layers, 96 wide, against
two layers, 32 wide. Cases, each with the same number of steps of 64 rows:
  alone      the student, on the rows with an answer
  token      the same rows: GKD, the Jensen-Shannon divergence at the labels' tokens
  kept       as token, with the four likeliest tokens kept on disk
  sequence   all rows: what the teacher writes in place of labels
  both       all rows: as token, at the tokens of what the teacher writes
  policy     all rows: the student's own answers in every step, reverse KL
  half       as policy, in half of the steps, else the labels' tokens
  all        the student alone, on all answers
  all_token  as token, on all answers
Printed are the shares of test words that are sorted right, in percent, their mean and standard
deviation over the seeds, and the processor seconds of a run: data, training, evaluation.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from tokenizers import Tokenizer, decoders, models, normalizers

from benchmarks.common import deviation, fit_here, numbers_and_rest, summary_of
from pipeline import training_run as record
from pipeline.command import silence_libraries

LETTERS, LENGTH = "abcdefgh", 6
TRAIN, VALID, TEST = 4000, 100, 500
WIDE, NARROW = 96, 32
GKD = "transfer=gkd"
CASES: dict[str, tuple[str, Sequence[str]]] = {  # {case: (data, options)}, TEACHER filled in
    "alone": ("few", ()),
    "token": ("few", (GKD, "transfer.teachers=TEACHER")),
    "kept": ("few", (GKD, "transfer.teachers=TEACHER", "transfer.top_k=4")),
    "sequence": ("some", ("transfer=sequence_level", "transfer.teachers=TEACHER")),
    "both": (
        "some",
        (
            "transfer=several",
            "transfer.methods={write: {name: sequence_level, teachers: TEACHER}, "
            "gkd: {name: gkd, teachers: TEACHER}}",
        ),
    ),
    "policy": (
        "some",
        (GKD, "transfer.teachers=TEACHER", "transfer.on_policy=1.0", "transfer.beta=1.0"),
    ),
    "half": (
        "some",
        (GKD, "transfer.teachers=TEACHER", "transfer.on_policy=0.5", "transfer.beta=1.0"),
    ),
    "all": ("all", ()),
    "all_token": ("all", (GKD, "transfer.teachers=TEACHER")),
}


def write_model(folder: Path, width: int) -> Path:
    """Write a decoder's config.json and a tokenizer of letters; no weights."""
    folder.mkdir(parents=True)
    names = ("<pad>", "</s>", *LETTERS, ">")
    core = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    core.normalizer = normalizers.Replace(" ", "")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(["<pad>", "</s>"])
    core.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "<pad>", "eos_token": "</s>"}
    config = {
        "model_type": "llama",
        "vocab_size": len(names),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 1,
    }
    known = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32, **special}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(known), encoding="utf-8")
    return folder


def write_data(folder: Path, seed: int, labels: int) -> None:
    """Write data files: ``all`` answers, ``some`` of them, and the ``few`` rows that have one."""
    random = np.random.default_rng(seed)
    words: dict[str, None] = {}
    while len(words) < TRAIN + VALID + TEST:
        words["".join(random.choice(list(LETTERS), LENGTH))] = None
    rows = pd.DataFrame({"word": list(words)})
    rows["sorted"] = ["".join(sorted(word)) for word in rows["word"]]
    rows["split"] = ["train"] * TRAIN + ["valid"] * VALID + ["test"] * TEST
    few = (rows["split"] != "train") | (rows.index < labels)
    for name, own in (
        ("all", rows),
        ("some", rows.assign(sorted=rows["sorted"].where(few))),
        ("few", rows[few]),
    ):
        own.to_csv(folder / f"{name}.csv", index=False)
        spec = {
            "datasets": {
                "words": {"source": "csv", "path": f"{name}.csv", "split": {"column": "split"}}
            },
            "tasks": {
                "sort": {
                    "dataset": "words",
                    "type": "generation",
                    "prompt": "{word}>",
                    "target": "sorted",
                    "score": "exact_match",
                    "valid_rows": VALID,
                }
            },
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))


def trained(folder: Path, name: str, data: str, options: Sequence[str]) -> tuple[float, float]:
    """Train; return the test words that are sorted right, in percent, and processor seconds."""
    arguments = [f"data={folder}/{data}.yaml", f"data.cache={folder}/cache", "tracking=none"]
    arguments += [f"run_dir={folder}/{name}", "gradients.every_n_steps=0", "preset=none"]
    arguments += ["encoder/text=language_model", "encoder.text.weights=false", "dim=8"]
    arguments += ["sampler.batch_size=64", "optimizer.lr=0.003"]
    begun = time.process_time()
    fit_here([*arguments, *options])
    seconds = time.process_time() - begun
    return 100 * float(summary_of(folder / name)["test"]["sort"]["exact_match"]), seconds


def compare(
    seed: int, steps: int, labels: int, cases: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Return {case: (percent, seconds)} of one seed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_data(folder, seed, labels)
        length = [f"trainer.max_steps={steps}", f"sampler.steps_per_epoch={max(1, steps // 5)}"]
        length.append(f"seed={seed}")
        wide, narrow = (
            [f"encoder.text.model={write_model(folder / str(width), width)}", *length]
            for width in (WIDE, NARROW)
        )
        found = {"teacher": trained(folder, "teacher", "all", wide)}
        print(f"seed {seed}: teacher {found['teacher']}", file=sys.stderr, flush=True)
        for case in cases:
            data, options = CASES[case]
            given = [option.replace("TEACHER", f"{folder}/teacher") for option in options]
            found[case] = trained(folder, case, data, [*narrow, *given])
            print(f"seed {seed}: {case} {found[case]}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    numbers, rest = numbers_and_rest({"seeds": 1, "first": 0, "steps": 400, "labels": 100})
    cases = [text.partition("=")[2] for text in rest]
    silence_libraries()
    record.draw_plots = lambda *_: []  # plots take longer than the students
    seeds = range(numbers["first"], numbers["first"] + numbers["seeds"])
    rows = [compare(s, numbers["steps"], numbers["labels"], cases or list(CASES)) for s in seeds]
    for case in rows[0]:
        scores = [row[case][0] for row in rows]
        seconds = statistics.mean(row[case][1] for row in rows)
        mean = statistics.mean(scores)
        print(f"{case}: {mean:.1f} ({deviation(scores):.1f}), {seconds:.0f} s")


if __name__ == "__main__":
    main()
