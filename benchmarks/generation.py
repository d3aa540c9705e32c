"""Answers in words: cost against plain transformers, and skills learnt from scratch.

    python -m benchmarks.generation cost [rounds=5] [steps=3] [rows=8] [tokens=24] [model=FOLDER]
    python -m benchmarks.generation skills [rows=20000] [steps=6000] [OVERRIDES of pipeline.fit ...]

``cost``: two tasks that answer in words on SmolLM2 with adapters of rank 8 (peft's), ``rows`` rows
of both together a step, AdamW. Compared, on the same rows and with the same adapters:
  ours     network, losses, balancer and backward of a ``MultiTaskModule``,
  plain    a hand-written loop: ids, labels that are -100 in the prompt, ``model(...).loss``.
Then ``LanguageModel.write`` with ``model.generate``, greedy, ``tokens`` tokens of each row. They
take turns; the medians of the ratios within a round are printed, of the processor's time.

``skills``: one small decoder without pre-training learns to copy, reverse and sort letters and to
add numbers of two digits, all in one run, and is tested on rows that it has never seen.
"""

from __future__ import annotations

import csv
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

import pollinate as po
from benchmarks.common import fit_here, numbers_and_rest, summary_of
from datamodules.batch import MixedBatch
from lightning_modules.encoders.language_model import Decoding, compose, pad_left, stack_tokens
from lightning_modules.module import MultiTaskModule

TASKS = ("first", "second")
WORDS = ("red", "lamp", "order", "late", "shoes", "small", "glass", "price", "green", "desk")
LETTERS, DIGITS = "abcdefghij", "0123456789"
TESTED, VALIDATED = 500, 200  # rows of each skill
SEED = 0


def words(draws: random.Random, least: int, most: int) -> str:
    return " ".join(draws.choices(WORDS, k=draws.randint(least, most)))


def built(options: dict[str, int], model: str | None) -> tuple[MultiTaskModule, list[MixedBatch]]:
    """Return a model with adapters, and the batches of a round."""
    torch.manual_seed(SEED)
    draws = random.Random(SEED)
    count = options["rows"] * options["steps"] // len(TASKS) * 2
    sets, tasks = {}, {}
    for name in TASKS:
        rows = [
            {"question": words(draws, 20, 40), "answer": words(draws, 8, 16)} for _ in range(count)
        ]
        sets[name] = po.Dataset(pd.DataFrame(rows), inputs={}, valid=0.2)
        tasks[name] = po.tasks.Generation(name, target="answer", prompt="Say: {question}")
    sampler = po.samplers.Uniform(batch_size=options["rows"])
    data = po.MixedDataModule(sets, tasks=tasks, sampler=sampler)
    tune = po.tuning.LoRA(rank=8)
    encoder: Any = (
        po.encoders.SmolLM2(tune=tune)
        if model is None
        else po.encoders.LanguageModel(model=model, tune=tune)
    )
    module = po.MultiTaskModule(data, encoders={"text": encoder}, dim=8)
    loader = iter(data.train_dataloader())
    return module.train(), [next(loader) for _ in range(options["steps"])]


def optimizer_of(module: MultiTaskModule) -> torch.optim.Optimizer:
    trained = [p for p in module.network.encoders.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-4)


def our_steps(module: MultiTaskModule, batches: Sequence[MixedBatch]) -> None:
    optimizer = optimizer_of(module)
    for batch in batches:
        outputs = module.network(batch.batches)
        losses = {}
        for name, output in outputs.items():
            (dataset,) = module.network.routes[name]
            losses[name] = module.tasks[name].loss(output, batch.batches[dataset].targets[name])
        optimizer.zero_grad()
        module.balancer.backward({name: loss.mean() for name, loss in losses.items()})
        optimizer.step()


def plain_steps(module: MultiTaskModule, batches: Sequence[MixedBatch]) -> None:
    model = module.network.language_model
    optimizer = optimizer_of(module)
    for batch in batches:
        asked = module.network._asked(batch.batches, module.network.routes)
        rows = [compose(one, model.shift) for one, _ in asked.values()]
        prompts = torch.cat([(one.prompts != 0).sum(dim=1) for one, _ in asked.values()])
        ids = stack_tokens(rows)
        mask = ids != 0
        plain = torch.where(mask, ids - model.shift, model.padding)
        beyond = torch.arange(ids.shape[1]) < prompts[:, None]
        labels = plain.masked_fill(~mask | beyond, -100)
        optimizer.zero_grad()
        model.network(input_ids=plain, attention_mask=mask.long(), labels=labels).loss.backward()
        optimizer.step()


def our_answers(module: MultiTaskModule, batches: Sequence[MixedBatch], tokens: int) -> None:
    prompts = batches[0].batches[TASKS[0]].prompts[TASKS[0]]
    with torch.inference_mode():
        module.network.language_model.write(TASKS[0], prompts, Decoding(tokens), None)


def plain_answers(module: MultiTaskModule, batches: Sequence[MixedBatch], tokens: int) -> None:
    model = module.network.language_model
    ids = pad_left(batches[0].batches[TASKS[0]].prompts[TASKS[0]])
    with torch.inference_mode():
        model.network.generate(
            input_ids=torch.where(ids != 0, ids - model.shift, model.padding),
            attention_mask=(ids != 0).long(),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=model.padding,
            eos_token_id=model.end,
        )


def seconds(run: Callable[[], None]) -> float:
    """Time a run, in seconds of the processor, which other programs hardly disturb."""
    start = time.process_time()
    run()
    return time.process_time() - start


def cost(options: dict[str, int], model: str | None) -> None:
    module, batches = built(options, model)
    pairs: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "step": (lambda: our_steps(module, batches), lambda: plain_steps(module, batches)),
        "answers": (
            lambda: our_answers(module.eval(), batches, options["tokens"]),
            lambda: plain_answers(module.eval(), batches, options["tokens"]),
        ),
    }
    for name, (ours, plain) in pairs.items():
        ours(), plain()
        ratios = [seconds(ours) / seconds(plain) for _ in range(options["rounds"])]
        low, high = min(ratios), max(ratios)
        print(f"{name}: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}) of plain")


def letters(draws: random.Random) -> str:
    return "".join(draws.choices(LETTERS, k=draws.randint(3, 8)))


def different(draws: random.Random, count: int) -> Iterator[str]:
    """Yield rows of letters, each once."""
    seen: set[str] = set()
    while len(seen) < count:
        found = letters(draws)
        if found not in seen:
            seen.add(found)
            yield found


def write_skills(folder: Path, rows: int) -> Path:
    """Write a table a skill, a data file, and a decoder whose tokens are characters."""
    draws = random.Random(SEED)
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    draws.shuffle(pairs)
    skills = {
        "repeat": [(q, q) for q in different(draws, rows)],
        "reverse": [(q, q[::-1]) for q in different(draws, rows)],
        "sort": [(q, "".join(sorted(q))) for q in different(draws, rows)],
        "add": [(f"{a}+{b}", str(a + b)) for a, b in pairs],
    }
    datasets, tasks = {}, {}
    for name, table in skills.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("question", "answer", "split"))
            for number, row in enumerate(table):
                early = "test" if number < TESTED else "valid"
                writer.writerow((*row, early if number < TESTED + VALIDATED else "train"))
        path = str(folder / f"{name}.csv")
        datasets[name] = {"source": "csv", "path": path, "split": {"column": "split"}}
        tasks[name] = {
            "dataset": name,
            "type": "generation",
            "prompt": f"{name[:2].upper()}{{question}}=",
            "target": "answer",
            "max_prompt": 12,
            "max_answer": 9,
            "score": "exact_match",
        }
    (folder / "skills.yaml").write_text(json.dumps({"datasets": datasets, "tasks": tasks}))
    return write_decoder(folder / "model")


def write_decoder(folder: Path) -> Path:
    """Write a decoder of 3 layers, width 96, with rotary positions and a token a character."""
    folder.mkdir()
    special = ("<pad>", "</s>")
    names = (*special, *LETTERS, *DIGITS, *"+=ADEORSV")
    core = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(list(special))
    core.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": "llama",
        "vocab_size": len(names),
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 1,
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 64,
        "pad_token": special[0],
        "eos_token": special[1],
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def skills(options: dict[str, int], overrides: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = write_skills(folder, options["rows"])
        arguments = [
            f"data={folder}/skills.yaml",
            "encoder/text=language_model",
            f"encoder.text.model={model}",
            "encoder.text.weights=false",
            "dim=8",
            "preset=none",
            "baseline=none",
            "tracking=none",
            "gradients.every_n_steps=0",
            "sampler.batch_size=128",
            "optimizer.lr=1e-3",
            "early_stopping.patience=null",
            "trainer.max_epochs=null",
            f"trainer.max_steps={options['steps']}",
            f"run_dir={folder}/run",
            *overrides,
        ]
        start = time.process_time()
        fit_here(arguments)
        spent = time.process_time() - start
        for name, scores in summary_of(folder / "run")["test"].items():
            print(f"{name}: exact match {scores['exact_match']:.3f} of {TESTED} unseen rows")
        print(f"{options['steps']:,} steps, {spent / 60:.1f} minutes of one core")


def main() -> None:
    torch.set_num_threads(1)
    what = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if what == "cost":
        defaults = {"rounds": 5, "steps": 3, "rows": 8, "tokens": 24}
        options, rest = numbers_and_rest(defaults)
        models_given = [one.partition("=")[2] for one in rest if one.startswith("model=")]
        cost(options, models_given[0] if models_given else None)
    elif what == "skills":
        options, rest = numbers_and_rest({"rows": 20_000, "steps": 6000})
        skills(options, rest)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
