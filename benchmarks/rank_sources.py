"""Do the scores of pipeline.rank_sources rank sources as real transfers do?

    python -m benchmarks.rank_sources [labels=200] [seeds=5] [epochs=30] [share=100]
        [sets=sst2,subj,trec,cr,mpqa,clinc] [folder=runs/rank_sources]

Sentences (SST-2, SUBJ, TREC, CR, MPQA) and the intents of CLINC150, which are expected as in
benchmarks.real_data. A source is a mean of embeddings with a trunk, trained on ``share`` per cent
of one set, of three sets also one trained on a tenth of these rows. A target is one of the five
with few labels; the sources of its own set are left out. A transfer starts from the source's
encoder, trunk and tokenizer; its gain is the accuracy on at most 1,000 test rows minus that of a
start from scratch, the mean over the seeds. The ranking sees the few labelled rows only. What is in
``folder`` is not computed again.
"""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from lightning.pytorch import seed_everything
from rich.console import Console

from benchmarks.common import deviation, fit_here
from benchmarks.real_data import SETS
from lightning_modules.checkpoints import read_checkpoint, read_spec
from lightning_modules.predictor import NETWORK_PREFIX
from pipeline.build import build_datamodule, build_module
from pipeline.command import silence_libraries
from pipeline.configuration.composition import compose
from pipeline.evaluation import measure
from pipeline.rank_sources import main as rank_sources
from pipeline.ranking.rank_agreement import RankAgreement, rank_agreement
from pipeline.trainer import quiet_trainer

COLUMN = {"trec": "coarse", "clinc": "intent"}  # others: label
TENTHS = ("sst2", "subj", "clinc")  # sets of which a source also gets a tenth
NETWORK = ("encoder/text=bag",)
TESTED, CHECKED = 1000, 200  # most rows of test and valid
SCRATCH = ""


@dataclass
class Options:
    """What is measured.

    labels: of a target; seeds, epochs: of a transfer.
    share: of a set's training rows that a source has, in per cent.
    sets: sources; all but clinc are targets, too.
    folder: for all files.
    """

    labels: int = 200
    seeds: int = 5
    epochs: int = 30
    share: int = 100
    sets: str = "sst2,subj,trec,cr,mpqa,clinc"
    folder: str = "runs/rank_sources"


def sentences(name: str) -> pd.DataFrame:
    place = "clinc150/clinc150.csv" if name == "clinc" else f"sentences/{name}.csv"
    table = pd.read_csv(SETS / "data" / place, keep_default_na=False, dtype=str)
    table = table[table["split"].isin(["train", "valid", "test"])]
    return table.assign(label=table[COLUMN.get(name, "label")])[["text", "label", "split"]]


def few(table: pd.DataFrame, most: Mapping[str, int]) -> pd.DataFrame:
    """Return at most so many rows of each split; valid is drawn from train where there is none."""
    if not (table["split"] == "valid").any():
        drawn = table[table["split"] == "train"].sample(CHECKED, random_state=1).index
        table = table.assign(split=table["split"].where(~table.index.isin(drawn), "valid"))
    parts = [
        own.sample(min(len(own), most[name]), random_state=0)
        for name, own in table.groupby("split")
    ]
    return pd.concat(parts)


def write_data(folder: Path, name: str, table: pd.DataFrame) -> Path:
    """Write a CSV and the data file that names it; return the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / f"{name}.csv", index=False)
    dataset = {
        "source": "csv",
        "path": f"{name}.csv",
        "inputs": {"text": "text"},
        "split": {"column": "split"},
    }
    task = {"dataset": name, "type": "classification", "target": "label", "unseen": "drop"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"datasets": {name: dataset}, "tasks": {name: task}}))
    return path


def train_source(folder: Path, own: str, name: str, share: float) -> Path:
    """Train on one set, or a share of it; return the run folder."""
    run = folder / "sources" / own
    if not (run / "summary.json").is_file():
        table = sentences(name)
        train = int((table["split"] == "train").sum() * share)
        data = write_data(
            folder / "data", own, few(table, {"train": train, "valid": TESTED, "test": TESTED})
        )
        options = [*NETWORK, "trainer.max_epochs=8", "tracking=none", f"run_dir={run}"]
        fit_here([f"data={data}", *options])
        print(f"trained {own} on {train:,} rows", flush=True)
    return run


def accuracy(config: Mapping[str, Any], task: str, source: Path | None, seed: int) -> float:
    """Train on the target, from a source or from scratch; return its test accuracy."""
    seed_everything(seed, verbose=False)
    config = {**config, "seed": seed}
    data = build_datamodule(config)
    data.setup()
    if source is not None:
        spec = read_spec(source)
        # ids of the source's tokens, labels of the target
        learnt = {**data.learnt_state(), "modalities": spec["learnt"]["modalities"]}
        data = build_datamodule(config, learnt)
        data.setup()
    module = build_module(config, data)
    if source is not None:
        weights = read_checkpoint(source)["state_dict"]
        kept = {
            name.removeprefix(NETWORK_PREFIX): value
            for name, value in weights.items()
            if name.startswith((f"{NETWORK_PREFIX}encoders.", f"{NETWORK_PREFIX}trunk."))
        }
        missing = module.network.load_state_dict(kept, strict=False).missing_keys
        assert all(name.startswith("heads.") for name in missing), missing
    plain, epochs = (
        {"accelerator": "cpu", "gradient_clip_val": 1.0},
        config["trainer"]["max_epochs"],
    )
    trainer = quiet_trainer(plain, [], max_epochs=epochs, limit_val_batches=0)
    module.engine.attach(trainer.strategy)
    trainer.fit(module, datamodule=data)
    on_cpu = {**config, "trainer": {"accelerator": "cpu"}}
    scores = measure(module, data, "test", on_cpu, Console(quiet=True))
    return scores[task]["accuracy"]


def transfers(
    folder: Path, target: str, data: Path, sources: Mapping[str, Path], options: Options
) -> dict[str, list[float]]:
    """Return {source, or ``SCRATCH``: accuracy by seed}; each is written down as it comes."""
    path = folder / f"transfers-{target}-{options.labels}-{options.epochs}.jsonl"
    found: dict[str, dict[int, float]] = {name: {} for name in (SCRATCH, *sources)}
    for line in path.read_text().splitlines() if path.is_file() else ():
        one = json.loads(line)
        found.setdefault(one["source"], {})[one["seed"]] = one["accuracy"]
    settings = ["sampler.batch_size=32", f"trainer.max_epochs={options.epochs}", "tracking=none"]
    config = compose("fit", [f"data={data}", *NETWORK, *settings])
    for seed in range(options.seeds):
        for name in (SCRATCH, *sources):
            if seed not in found[name]:
                best = None if name == SCRATCH else sources[name] / "checkpoints" / "best.ckpt"
                value = found[name][seed] = accuracy(config, target, best, seed)
                with path.open("a") as stream:
                    stream.write(
                        json.dumps({"source": name, "seed": seed, "accuracy": value}) + "\n"
                    )
    return {
        name: [own[seed] for seed in range(options.seeds)]
        for name, own in found.items()
        if name == SCRATCH or name in sources
    }


def rank(
    folder: Path, target: str, data: Path, sources: Mapping[str, Path], gains: Mapping[str, float]
) -> dict[str, Any]:
    """Run the command on a target, with the gains; return what it writes."""
    table = folder / f"gains-{target}.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("source", "task", "gain"))
        writer.writerows((str(sources[name]), target, gain) for name, gain in gains.items())
    output = folder / f"ranking-{target}.json"
    output.unlink(missing_ok=True)
    names = ",".join(str(path) for path in sources.values())
    options = [f"data={data}", f"sources=[{names}]", f"gains={table}", f"output={output}"]
    run = folder / "rankings" / target
    shutil.rmtree(run, ignore_errors=True)
    assert rank_sources([*options, "tracking=none", f"run_dir={run}"]) == 0
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def pooled(
    found: Mapping[str, Mapping[str, Any]], sources: Sequence[str]
) -> dict[str, RankAgreement]:
    """Return {score: its agreement with the gains of all targets}."""
    scores = {score: [] for score in next(iter(found.values()))["kendall_tau"]}
    for target, one in found.items():
        own, gains = one["tasks"][target]["sources"], one["gains"][target]
        measured = np.array([gains.get(source, np.nan) for source in sources])
        for score, columns in scores.items():
            values = [own[s][score]["value"] if s in own else None for s in sources]
            columns.append((np.array(values, dtype=float), measured))
    return {score: rank_agreement(columns) for score, columns in scores.items()}


def main(argv: Sequence[str]) -> None:
    given = dict(argument.split("=") for argument in argv)
    options = Options(**{k: int(v) if v.isdigit() else v for k, v in given.items()})  # type: ignore[arg-type]  # by name
    sets = options.sets.split(",")
    silence_libraries()
    torch.set_num_threads(1)
    folder = Path(options.folder).absolute()
    share = options.share / 100
    runs = {name: train_source(folder, name, name, share) for name in sets}
    for name in [name for name in sets if name in TENTHS]:
        runs[f"{name}_tenth"] = train_source(folder, f"{name}_tenth", name, share / 10)
    found = {}
    for target in [name for name in sets if name != "clinc"]:
        most = {"train": options.labels, "valid": CHECKED, "test": TESTED}
        data = write_data(folder / "targets", target, few(sentences(target), most))
        sources = {name: run for name, run in runs.items() if name.partition("_")[0] != target}
        scores = transfers(folder, target, data, sources, options)
        base = scores.pop(SCRATCH)
        gains = {name: statistics.mean(own) - statistics.mean(base) for name, own in scores.items()}
        print(f"{target}: from scratch {statistics.mean(base):.3f}", flush=True)
        for name, own in sorted(scores.items(), key=lambda item: -gains[item[0]]):
            differences = [a - b for a, b in zip(own, base, strict=True)]
            error = deviation(differences) / len(differences) ** 0.5
            print(f"  {name:12} {gains[name]:+.3f} +- {error:.3f}", flush=True)
        found[target] = rank(folder, target, data, sources, gains)
    print("\nKendall's tau with the gains, pairs of all targets")
    for score, one in pooled(found, [str(run) for run in runs.values()]).items():
        if one.tau is None:
            print(f"  {score:16} -  {one.reason}")
        else:
            interval = f"{one.low:+.2f} to {one.high:+.2f}" if one.low is not None else "-"
            print(f"  {score:16} {one.tau:+.2f}  95 % {interval}  p {one.p:.3f}  {one.pairs} pairs")


if __name__ == "__main__":
    main(sys.argv[1:])
