from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lightning_modules.predictor import Predictor
from pipeline.predict import main
from pipeline.predict import main as predict
from pipeline.serving.model_folder import DATA_FOLDER, DESCRIPTION, WEIGHTS, export_model
from pipeline.serving.pyfunc import ServedModel
from tests.lean_fit import fit


def image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def predict_rows_of(run: Path, source: Path, output: Path, *more: str) -> int:
    return main([f"checkpoint={run}", f"input={source}", f"output={output}", *more])


def test_csv_answers_every_row_in_order(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no")
    (tmp_path / "new.csv").write_text(
        "id,review,image,sentiment\n"
        '1,"good,\nvery good",pictures/a.png,great\n'
        "2,,pictures/a.png,\n"
        "3,fine,pictures/broken.png,\n"
        "4,fine,../new.csv,\n"
        "5,fine\n"
        "6,,,\n"
        "7,fine,/etc/hostname,\n",
        encoding="utf-8",
    )
    assert (
        predict_rows_of(tiny_run, tmp_path / "new.csv", tmp_path / "out.csv", "batch_size=1") == 0
    )
    rows = read_csv(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == list("1234567")
    assert rows[0]["review"] == "good,\nvery good"
    assert rows[0]["input_sentiment"] == "great"
    assert [bool(row["digit"]) for row in rows] == [True, True, *[False] * 5]
    assert [bool(row["sentiment"]) for row in rows] == [True, False, True, True, False, False, True]
    assert [row["error"] for row in rows] == [
        "",
        "",
        "image: the content is not an image; give PNG, JPEG or similar",
        f"image: the path must stay below {tmp_path}, got ../new.csv; move the file there",
        "a row must have 4 cells like the header, got 2",
        "image, review empty",
        f"image: the path must stay below {tmp_path}, got /etc/hostname; move the file there",
    ]
    assert "5 bad rows in" in (out := capsys.readouterr().out)
    assert "row 3: image: the content is not an image" in out


def test_equals_the_predictor(tiny_run: Path, tmp_path: Path) -> None:
    texts = [f"number {n} " * (n % 7 + 1) for n in range(50)]
    (tmp_path / "new.txt").write_text("\n".join(texts), encoding="utf-8")
    predict_rows_of(tiny_run, tmp_path / "new.txt", tmp_path / "out.jsonl", "batch_size=3")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    predictor = Predictor.load(tiny_run / "checkpoints" / "best.ckpt")
    expected = predictor.predict({"text": texts}, ["subject"]).answers["subject"]
    assert [row["text"] for row in rows] == texts
    assert [row["row"] for row in rows] == list(range(1, 51))
    for row, answer in zip(rows, expected, strict=True):
        assert answer is not None
        assert row["subject"] == answer["label"]
        assert row["subject_probability"] == pytest.approx(answer["probability"], abs=1e-5)


def test_folder_of_images_is_read_sorted_at_any_depth(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    for number, name in enumerate(["b.png", "a/c.PNG", "a/a.bmp", "._b.png", "note.txt"]):
        target = folder / name
        image(target, number) if name != "note.txt" else target.write_text("x")
    assert predict_rows_of(tiny_run, folder, tmp_path / "out.parquet") == 0
    assert "passed over: 1 hidden, 1 with the ending .txt" in " ".join(
        capsys.readouterr().out.split()
    )
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["path"].tolist() == ["a/a.bmp", "a/c.PNG", "b.png"]
    assert table["digit_probability"].between(0, 1).all()
    assert "sentiment" not in table


def test_one_image(tiny_run: Path, tmp_path: Path) -> None:
    assert predict_rows_of(tiny_run, image(tmp_path / "a.png"), tmp_path / "out.tsv") == 0
    assert (tmp_path / "out.tsv").read_text().startswith("row\tpath\tdigit\tdigit_probability\t")


def test_parquet_with_contents_of_images(tiny_run: Path, tmp_path: Path) -> None:
    content = image(tmp_path / "a.png").read_bytes()
    table = {
        "id": [1, 2, 3],
        "image": [{"bytes": content, "path": None}, {"bytes": None, "path": "a.png"}, None],
        "text": ["a", None, None],
    }
    pd.DataFrame(table).to_parquet(tmp_path / "new.parquet")
    assert predict_rows_of(tiny_run, tmp_path / "new.parquet", tmp_path / "out.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert rows[0]["digit"] == rows[1]["digit"] is not None
    assert "image" not in rows[0]
    assert [row["error"] for row in rows] == ["", "", "image, text empty"]


def test_json_lines_of_any_kind(tiny_run: Path, tmp_path: Path) -> None:
    lines = ['{"text": "a", "more": [1, "é"]}', "[1]", '{"text": 5}', "{", '{"text": "\\ud800"}']
    (tmp_path / "new.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    for name in ("out.csv", "out.parquet", "out.jsonl"):
        assert predict_rows_of(tiny_run, tmp_path / "new.jsonl", tmp_path / name) == 0
    rows = read_csv(tmp_path / "out.csv")
    assert rows[0]["more"] == '[1, "é"]'
    assert [bool(row["subject"]) for row in rows] == [True, False, True, False, False]
    assert "must be a JSON object, got [1]" in rows[1]["error"]
    assert "not valid JSON" in rows[3]["error"]
    assert pd.read_parquet(tmp_path / "out.parquet")["text"].tolist()[2] == "5"


def test_columns_and_tasks_as_told(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("opinion,title\ngood,physics\n")
    arguments = ("columns={text: opinion}", "tasks=[subject]")
    assert predict_rows_of(tiny_run, tmp_path / "new.csv", tmp_path / "out.csv", *arguments) == 0
    [row] = read_csv(tmp_path / "out.csv")
    expected = Predictor.load(tiny_run / "checkpoints" / "best.ckpt").predict({"text": ["good"]})
    assert list(row) == ["row", "opinion", "title", "subject", "subject_probability", "error"]
    assert row["subject"] == expected.answers["subject"][0]["label"]  # type: ignore[index]  # not None


@pytest.mark.parametrize(
    ("name", "content", "more", "message"),
    [
        ("new.xls", b"x", (), "input must be a folder, a picture or recording, or end in .csv"),
        ("none.csv", None, (), "must be a file or folder; nothing is there"),
        ("new.csv", b"", (), "must start with a line of column names, got an empty file"),
        ("new.csv", b"text\n", (), "must have at least one row, got none"),
        ("new.txt", b"", (), "must have at least one row, got none"),
        ("new.csv", b"text\ngr\xfcn\n", (), "must be UTF-8, found byte 0xfc in line 2"),
        ("new.csv", "text\nä\n".encode("utf-16"), (), "must be UTF-8, found byte 0xff in line 1"),
        ("new.csv", b'id,text\n1,a\n2,"b\n3,c\n', (), "row at line 3 is never closed"),
        ("new.csv", b"text,text\na,b\n", (), "names must be given and differ, got text twice"),
        ("new.csv", b"text,\na,b\n", (), "names must be given and differ, got an empty one"),
        ("new.csv", b"body\na\n", (), "(image: image; text: review or title or text); it has body"),
        ("new.csv", b"review,title\na,b\n", (), "text must be one column, but"),
        ("new.csv", b"text\na\n", ("columns={text: txt}",), "is not in"),
        ("new.csv", b"text\na\n", ("columns={txt: text}",), "the checkpoint doesn't take it"),
        ("new.csv", b"text\na\n", ("tasks=[digit]",), "task digit reads image, the input has text"),
        ("new.csv", b"text\na\n", ("tasks=[digt]",), "did you mean digit?"),
        ("new.csv", b"id,text\n1,a\n2\n", ("on_bad_row=error",), "row 2: a row must have 2 cells"),
        ("new.parquet", b"PAR1 no", (), "is no parquet file"),
    ],
)
def test_bad_inputs(
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    more: tuple[str, ...],
    message: str,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert predict_rows_of(tiny_run, tmp_path / name, tmp_path / "out.csv", *more) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert {path.name for path in tmp_path.iterdir()} <= {name}  # no half output


def test_bad_outputs(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "new.csv"
    source.write_text("text\na\n")
    (tmp_path / "there.csv").write_text("precious")
    (tmp_path / "folder.csv").mkdir()
    cases: list[tuple[str, list[str], str]] = [
        ("out.xls", [], "output must end in .csv, .tsv, .jsonl, .parquet, got out.xls"),
        ("there.csv", [], "is there already; choose another, or overwrite=true"),
        ("folder.csv", ["overwrite=true"], "is a folder; choose another"),
        ("new.csv", ["overwrite=true"], "is the input; choose another"),
        ("none/out.csv", [], "doesn't exist; make it first"),
    ]
    for name, more, message in cases:
        assert predict_rows_of(tiny_run, source, tmp_path / name, *more) in (1, 2), name
        assert message in capsys.readouterr().err
    assert (tmp_path / "there.csv").read_text() == "precious"
    assert predict_rows_of(tiny_run, source, tmp_path / "there.csv", "overwrite=true") == 0
    assert (tmp_path / "there.csv").read_text().startswith("row,text,")


def test_empty_folder(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict_rows_of(tiny_run, tmp_path, tmp_path / "out.csv") == 1
    assert "has no images or sounds at any depth" in capsys.readouterr().err


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_prediction_leaves_no_file(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    (tmp_path / "new.txt").write_text("a\n" * 50)
    from pipeline.prediction.output_files import CsvOutput

    write, calls = CsvOutput.write, []

    def failing(self: CsvOutput, rows: Any) -> None:
        calls.append(rows)
        if len(calls) == 3:
            raise failure
        write(self, rows)

    monkeypatch.setattr(CsvOutput, "write", failing)
    code = predict_rows_of(tiny_run, tmp_path / "new.txt", tmp_path / "out.csv", "batch_size=2")
    assert code == (130 if isinstance(failure, KeyboardInterrupt) else 1)
    assert os.listdir(tmp_path) == ["new.txt"]  # noqa: PTH208  # hidden files count too


SHOP = Path(__file__).parents[1] / "data"
SMALL = (
    "tracking=none",
    "trainer.max_steps=2",
    "dim=8",
    "encoder.text.width=8",
    "encoder.text.pairs=64",
    "encoder.image.width=8",
)
Train = Callable[[str, dict[str, Any]], Path]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train on a changed data file of the shop; return the run's folder."""

    def trained(name: str, change: dict[str, Any]) -> Path:
        root = tmp_path_factory.mktemp("own")
        spec = yaml.safe_load((SHOP / f"{name}.yaml").read_text(encoding="utf-8"))
        shop = spec["datasets"]["shop"]
        shop["path"] = str(SHOP / shop["path"])
        shop.update(change)
        (root / "data.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        assert fit([*SMALL, f"data={root}/data.yaml", f"run_dir={root}/run"]) == 0
        return root / "run"

    return trained


@pytest.fixture(scope="module")
def pairs(train: Train) -> Path:
    return train("csv", {"inputs": {"text": ["title", "slots"]}})


@pytest.fixture(scope="module")
def sounds(train: Train) -> Path:
    return train("audio_folder", {})


@pytest.fixture(scope="module")
def every_task(train: Train) -> Path:
    return train("tasks", {})


def answers(run: Path, source: Path, output: Path, *more: str) -> list[dict[str, str]]:
    assert predict([f"checkpoint={run}", f"input={source}", f"output={output}", *more]) == 0
    with output.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_pair_of_columns_is_read_as_in_training(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("title,slots\nbig hat,O B-thing\nonly one,\n,\n")
    rows = answers(pairs, tmp_path / "new.csv", tmp_path / "out.csv")
    assert [bool(row["size"]) for row in rows] == [True, True, False]
    assert rows[2]["error"] == "title+slots empty"


def test_a_pair_can_be_named(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "new.csv").write_text("a,b\nbig hat,O B-thing\n")
    named = "columns={text: [a, b]}"
    assert answers(pairs, tmp_path / "new.csv", tmp_path / "out.csv", named)[0]["size"]
    for wrong, said in (("{text: [a, c]}", "columns.text=c is not in"), ("{text: [a]}", "a pair")):
        arguments = [f"checkpoint={pairs}", f"input={tmp_path}/new.csv", f"columns={wrong}"]
        assert predict([*arguments, f"output={tmp_path}/none.csv"]) == 2
        assert said in capsys.readouterr().err


def test_both_texts_of_a_pair_count(pairs: Path) -> None:
    predictor = Predictor.load(pairs / "checkpoints" / "best.ckpt")
    found = predictor.predict({"text": [("big hat", "O B-thing"), ("big hat", "B-number")]})
    first, second = found.answers["size"]
    assert first is not None and second is not None
    assert first["probability"] != second["probability"]


def test_a_folder_of_sounds(sounds: Path, tmp_path: Path) -> None:
    folder = SHOP / "sounds" / "test"
    rows = answers(sounds, folder, tmp_path / "out.csv")
    assert len(rows) == len(list(folder.rglob("*.wav")))
    assert all(row["kind"] and not row["error"] for row in rows)


def test_a_table_of_sounds_and_one_that_is_none(sounds: Path, tmp_path: Path) -> None:
    sound = next((SHOP / "sounds" / "test").rglob("*.wav"))
    (tmp_path / "a.wav").write_bytes(sound.read_bytes())
    (tmp_path / "b.wav").write_bytes(b"no sound")
    (tmp_path / "new.csv").write_text("audio\na.wav\nb.wav\n../c.wav\n")
    rows = answers(sounds, tmp_path / "new.csv", tmp_path / "out.csv")
    assert [bool(row["kind"]) for row in rows] == [True, False, False]
    assert "audio" in rows[1]["error"] and "must stay below" in rows[2]["error"]


def test_a_folder_of_pictures_and_sounds_is_refused(
    sounds: Path, tmp_path: Path, capsys: Any
) -> None:
    for name in ("a.wav", "a.png"):
        (tmp_path / name).touch()
    assert predict([f"checkpoint={sounds}", f"input={tmp_path}", f"output={tmp_path}/o.csv"]) == 1
    assert "has both images and sounds" in capsys.readouterr().err


def test_every_type_of_task_answers(every_task: Path, tmp_path: Path) -> None:
    rows = answers(every_task, SHOP / "shop.csv", tmp_path / "out.csv")
    row = rows[0]
    assert row["size"] in ("small", "big")
    assert isinstance(float(row["price"]), float)
    assert row["stars"] in list("12345")
    assert len(row["slots"].split()) == len(row["title"].split())
    assert len(json.loads(row["pairs_text"])) == len(json.loads(row["pairs_image"])) == 8


def served(run: Path, folder: Path) -> tuple[ServedModel, list[str]]:
    export_model(run / "checkpoints" / "best.ckpt", folder)
    description = json.loads((folder / DATA_FOLDER / DESCRIPTION).read_text(encoding="utf-8"))
    return ServedModel(Predictor.load(folder / DATA_FOLDER / WEIGHTS)), description["inputs"]


def test_a_served_model_takes_pairs(pairs: Path, tmp_path: Path) -> None:
    model, inputs = served(pairs, tmp_path / "model")
    assert inputs == ["text", "text_pair"]
    found = model.predict(pd.DataFrame({"text": ["hat", ""], "text_pair": ["B-thing", ""]}))
    assert [bool(label) for label in found["size"]] == [True, False]


def test_a_served_model_takes_sounds(sounds: Path, tmp_path: Path) -> None:
    model, inputs = served(sounds, tmp_path / "model")
    assert inputs == ["audio"]
    sound = next((SHOP / "sounds" / "test").rglob("*.wav")).read_bytes()
    found = model.predict(pd.DataFrame({"audio": [sound, b"no sound"]}))
    assert [bool(label) for label in found["kind"]] == [True, False]
    assert "audio" in found["error"][1]
