"""Presets: what they choose of given facts, and that whatever the user said stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.configuration.composition import compose
from pipeline.presets import apply
from pipeline.presets.apply import apply_preset
from pipeline.presets.choice import Choice, open_choices
from pipeline.presets.facts import (
    EFFICIENTNET,
    MINILM,
    AudioFacts,
    DataFacts,
    ImageFacts,
    MachineFacts,
    TaskFacts,
    TextFacts,
)
from pipeline.presets.fast import fast, image_size, image_stride, token_length
from pipeline.presets.good import good
from pollinate.errors import UsageError
from tests.shops import data, reviews, write

TWO_CORES = MachineFacts(2, gpu=False, bf16=False)
ALL = frozenset({MINILM, EFFICIENTNET})
ENGLISH = TextFacts(100, 200, unspaced=False, letters_a_token=4.0)
CHINESE = TextFacts(100, 200, unspaced=True, letters_a_token=1.0)
PHOTOS = ImageFacts(112, 112, grey=False, flips=True)
DIGITS = ImageFacts(28, 28, grey=True, flips=False)
SOUNDS = AudioFacts(8000)
KIND = TaskFacts("classification", 500, 5, ("text",), words=False, pixels=False)


def facts(rows: int = 5000, valid: int = 500, task: TaskFacts = KIND, **inputs: Any) -> DataFacts:
    having = {name: rows if name in inputs else 0 for name in ("audio", "image", "text")}
    own = replace(task, valid=valid, modalities=tuple(sorted(inputs)))
    return DataFacts({"train": rows, "valid": valid}, having, 1, {"kind": own}, **inputs)


def chosen(preset: Any, known: DataFacts, packages: frozenset[str] = ALL) -> dict[str, Any]:
    found = list(preset(known, TWO_CORES, packages))
    return {key: value for choice in found for key, value in choice.options.items()}


def test_texts_get_a_linear_model_and_few_slow_epochs() -> None:
    found = chosen(fast, facts(text=ENGLISH))

    assert found["data.text.wide"] is True
    assert found["trainer.max_epochs"] == 4
    assert found["optimizer.lr"] == 1e-3
    assert found["encoder/text"] == "bag"


def test_words_need_their_neighbours() -> None:
    tagging = replace(KIND, kind="tagging", words=True)

    found = chosen(fast, facts(text=ENGLISH, task=tagging))

    assert found["encoder/text"] == "gru"
    assert found["data.tasks.kind.transitions"] is True
    assert found["sampler.bucket"] == 16


def test_pairs_of_very_many_tags_are_not_learnt() -> None:
    tagging = replace(KIND, kind="tagging", words=True, classes=500)

    found = chosen(fast, facts(text=ENGLISH, task=tagging))
    assert not [key for key in found if key.endswith("transitions")]


@pytest.mark.parametrize(
    ("image", "size", "stride"),
    [
        (ImageFacts(8, 8, grey=True, flips=False), (8, 8), 1),
        (DIGITS, (28, 28), 2),
        (ImageFacts(32, 32, grey=False, flips=True), (32, 32), 2),
        (PHOTOS, (48, 48), 3),
        (ImageFacts(500, 300, grey=False, flips=True), (48, 48), 3),
    ],
)
def test_small_pictures_keep_their_size(
    image: ImageFacts, size: tuple[int, int], stride: int
) -> None:
    assert image_size(image) == size
    assert image_stride(*size) == stride


def test_pictures() -> None:
    found = chosen(fast, facts(image=PHOTOS))
    assert found["data.image.flip"] == 0.5
    assert found["data.image.channels"] == 3
    assert found["data.tasks.kind.label_smoothing"] == 0.1

    digits = chosen(fast, facts(image=DIGITS))
    assert "data.image.flip" not in digits
    assert digits["data.image.channels"] == 1


def test_words_are_learnt_by_a_chain_on_a_pretrained_encoder_too() -> None:
    tagging = replace(KIND, kind="tagging", words=True)
    found = chosen(good, facts(text=ENGLISH, task=tagging))

    assert found["data.tasks.kind.transitions"] is True
    assert found["data.text.max_length"] == 128  # words that are cut off can't be labelled


def test_maps_are_not_moved_unasked() -> None:
    pixels = replace(KIND, kind="segmentation", pixels=True)

    assert "data.image.shift" not in chosen(fast, facts(image=PHOTOS, task=pixels))


@pytest.mark.parametrize("preset", [fast, good])
def test_fewer_rows_are_gone_through_more_often(preset: Any) -> None:
    epochs = [
        chosen(preset, facts(rows, image=PHOTOS))["trainer.max_epochs"]
        for rows in (300, 3000, 20_000)
    ]

    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[-1]


def test_words_of_few_texts_are_gone_through_more_often() -> None:
    tagging = replace(KIND, kind="tagging", words=True)
    epochs = [
        chosen(fast, facts(rows, text=ENGLISH, task=tagging))["trainer.max_epochs"]
        for rows in (300, 5000, 50_000)
    ]

    assert epochs == [60, 20, 8]


def test_texts_beside_pictures_learn_slowly() -> None:
    found = chosen(fast, facts(text=ENGLISH, image=DIGITS))

    assert found["optimizer.lr"] == 4e-3
    assert found["optimizer.lr_scale"]["encoders.text"] < 0.5


def test_several_data_sets_are_mixed_by_their_size() -> None:
    several = replace(facts(text=ENGLISH), datasets=3)

    assert chosen(fast, several)["sampler.temperature"] == 2.0
    assert "sampler.temperature" not in chosen(fast, facts(text=ENGLISH))


def test_too_few_validation_rows_to_stop_by() -> None:
    known = facts(text=ENGLISH, valid=19)
    last = list(fast(known, TWO_CORES, ALL))[-1]

    assert last.options == {"early_stopping.patience": None}
    assert "19 validation rows" in last.why
    assert chosen(fast, facts(text=ENGLISH, valid=20))["early_stopping.patience"] == 3


def test_length_follows_the_script() -> None:
    assert token_length(ENGLISH) < token_length(CHINESE) <= 256
    assert token_length(ENGLISH) % 16 == 0


def test_pretrained_encoders_where_they_know_the_data() -> None:
    found = chosen(good, facts(text=ENGLISH, image=PHOTOS))

    assert found["encoder/text"] == "minilm"
    assert found["encoder/image"] == "efficientnet_lite0"
    assert found["data.text.wide"] is True
    assert set(found["optimizer.lr_scale"]) == {"encoders.text", "encoders.image"}


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"text": CHINESE}, "texts that are not in English"),
        ({"image": DIGITS}, "small grey pictures"),
        ({"audio": SOUNDS}, "recordings"),
    ],
)
def test_what_no_encoder_knows_is_learnt_from_scratch(
    inputs: Mapping[str, Any], reason: str
) -> None:
    known = facts(**inputs)
    first, *rest = good(known, TWO_CORES, ALL)

    assert reason in first.why
    assert rest == list(fast(known, TWO_CORES, ALL))


def test_one_of_two_is_known() -> None:
    found = chosen(good, facts(text=ENGLISH, image=DIGITS))
    assert found["encoder/image"] == "resnet"
    assert found["optimizer.lr_scale"]["encoders.image"] > 1

    lines = [choice.line() for choice in good(facts(text=ENGLISH, image=DIGITS), TWO_CORES, ALL)]
    assert "from scratch: small grey pictures" in lines


def test_nothing_is_installed() -> None:
    with pytest.raises(UsageError, match=r"pollinate\[pretrained,encoders\].*preset=fast"):
        list(good(facts(text=ENGLISH), TWO_CORES, frozenset()))


def test_long_runs_are_cut() -> None:
    long = replace(ENGLISH, characters=2000, most=4000)
    found = chosen(good, facts(text=long))

    assert found["data.text.max_length"] == 128
    assert found["encoder.text.tune"]["blocks"] in (3, 6)
    assert found["trainer.max_epochs"] <= chosen(good, facts(text=ENGLISH))["trainer.max_epochs"]


USUAL = {"encoder": {"text": {"_target_": "Bag", "width": 48}}, "trainer": {"max_epochs": 7}}


@pytest.mark.parametrize(
    ("given", "config", "kept"),
    [
        ((), USUAL, {"encoder/text", "encoder.text.tune", "trainer.max_epochs"}),
        (("encoder/text",), USUAL, {"trainer.max_epochs"}),
        (("encoder.text.tune",), USUAL, {"encoder/text", "trainer.max_epochs"}),
        (("encoder.text.tune.blocks",), USUAL, {"encoder/text", "trainer.max_epochs"}),
        (("trainer.max_steps",), USUAL, {"encoder/text", "encoder.text.tune"}),
        (("data",), USUAL, {"encoder/text", "encoder.text.tune", "trainer.max_epochs"}),
        ((), {**USUAL, "trainer": {"max_epochs": 2}}, {"encoder/text", "encoder.text.tune"}),
        ((), {**USUAL, "encoder": {"text": {"_target_": "GRU"}}}, {"trainer.max_epochs"}),
    ],
)
def test_what_the_user_chose_stays(
    given: tuple[str, ...], config: dict[str, Any], kept: set[str]
) -> None:
    choices = [
        Choice({"encoder/text": "minilm", "encoder.text.tune": {"name": "frozen"}}, "a"),
        Choice({"trainer.max_epochs": 5}, "b"),
    ]
    found = list(open_choices(choices, given, config, USUAL))

    assert {key for choice in found for key in choice.options} == kept


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    own = {key: value for key, value in data().items() if key not in ("text", "image")}
    file = tmp_path / "shop.yaml"
    write(tmp_path, {"shop.csv": reviews(120), "shop.yaml": yaml.safe_dump(own)})
    return file


def config_of(*overrides: str) -> dict[str, Any]:
    config = compose("fit", overrides)
    return apply_preset("fit", config, overrides, []).config


def test_choices_are_in_the_configuration(shop: Path) -> None:
    found = config_of(f"data={shop}")

    assert found["preset"] == "fast"
    assert found["data"]["text"]["wide"] is True
    assert found["sampler"]["batch_size"] == 32
    assert found == config_of(f"data={shop}")


def test_the_command_line_and_the_file_win(shop: Path) -> None:
    content = yaml.safe_load(shop.read_text())
    shop.write_text(yaml.safe_dump({**content, "text": {"max_length": 77}}))
    found = config_of(f"data={shop}", "sampler.batch_size=7", "preset=fast", "encoder/text=conv")

    assert found["data"]["text"]["max_length"] == 77
    assert found["sampler"]["batch_size"] == 7
    assert found["encoder"]["text"]["_target_"].endswith("Conv")
    assert found["optimizer"]["lr"] == 1e-3


def test_none_chooses_nothing(shop: Path) -> None:
    overrides = [f"data={shop}", "preset=none"]
    found = apply_preset("fit", compose("fit", overrides), overrides, [])

    assert found.config == compose("fit", overrides)
    assert not found.lines


@pytest.mark.parametrize(("gpu", "name"), [(False, "fast"), (True, "good")])
def test_auto_is_good_with_a_gpu(
    shop: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, name: str
) -> None:
    taken = []
    monkeypatch.setattr(apply, "machine_facts", lambda: MachineFacts(2, gpu, bf16=False))
    monkeypatch.setattr(apply, "pretrained_packages", lambda: ALL)
    monkeypatch.setattr(
        apply, "PRESETS", {n: lambda *_, n=n: iter(taken.append(n) or ()) for n in ("fast", "good")}
    )

    assert config_of(f"data={shop}")["preset"] == name
    assert taken == [name]


def test_a_word_that_is_no_preset(shop: Path) -> None:
    with pytest.raises(UsageError, match="preset must be one of auto, fast, good, none"):
        compose("fit", [f"data={shop}", "preset=best"])


def test_a_run_says_and_keeps_what_was_chosen(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import training_run
    from pipeline.fit import main
    from pipeline.linear.scores import LinearScores

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_run, "draw_plots", lambda *_: [])
    monkeypatch.setattr(training_run, "draw_reliability", lambda *_: [])
    monkeypatch.setattr(training_run, "linear_scores", lambda *_: LinearScores())
    run = tmp_path / "run"
    overrides = [f"data={shop}", "dim=8", "trainer.max_steps=1", "tracking=none"]
    assert main([*overrides, f"run_dir={run}"]) == 0
    said = capsys.readouterr().out
    assert "preset fast chose" in said
    assert "data.text.wide=true  (a linear model of words beside the encoder)" in said
    assert "trainer.max_epochs=4" not in said  # max_steps is in its place
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["preset"], config["sampler"]["batch_size"]) == ("fast", 32)

    assert main([f"resume={run}", "trainer.max_steps=2"]) == 0
    assert "chose" not in capsys.readouterr().out


def test_a_plan_shows_what_is_chosen(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.plan import main

    assert main([f"data={shop}", "sampler.batch_size=9"]) == 0
    said = capsys.readouterr().out
    assert "preset fast chose" in said
    assert "sampler.batch_size=9 on 1 device" in said
