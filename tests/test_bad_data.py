"""What is wrong with a user's data is said with file, row, column and what to do."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pollinate.errors import PollinateError
from tests.shops import composed, data, loaded, refusal, reviews, set_up, write


def png(width: int = 8, height: int = 8, shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), shade).save(file, format="PNG")
    return file.getvalue()


FILES = [
    ("missing file", {"shop.tsv": ""}, {}, "there is no file .*shop.csv; did you mean shop.tsv?"),
    ("missing folder", {}, {"path": "no/shop.csv"}, "the folder .* is there, .*no is not"),
    ("no match", {}, {"path": "part-*.csv"}, "no file matches .*part-\\*.csv; check path"),
    (
        "empty file",
        {"shop.csv": ""},
        {},
        "must start with a line of column names, got an empty file",
    ),
    (
        "header only",
        {"shop.csv": "text,label\n"},
        {},
        "at least one row behind the header, got none",
    ),
    (
        "missing column",
        {"shop.csv": "texts,label\na,b\n"},
        {},
        "inputs.text names the column 'text', which is not in .*; did you mean texts?",
    ),
    (
        "wrong delimiter",
        {"shop.csv": "text;label\na;b\n"},
        {},
        "has one column, 'text;label'; it seems to be parted by ';'",
    ),
    (
        "wrong encoding",
        {"shop.csv": "text,label\nGrün,b\n".encode("latin-1")},
        {},
        "must be UTF-8, found byte 0xfc in line 2; save it as UTF-8, or say what it is",
    ),
    (
        "unknown encoding",
        {"shop.csv": reviews()},
        {"encoding": "utf-99"},
        "encoding must be one that Python knows .*, got utf-99",
    ),
    (
        "ragged rows",
        {"shop.csv": reviews() + "too,many,cells\nfew\n"},
        {},
        r"2 rows that can't be used:\n  .*shop.csv, line 18, a row must have 2 cells like the "
        r"header, got 3\n  .*line 19, .* got 1\nmend them, or leave them out: data.on_bad_row=skip",
    ),
    (
        "open quote",
        {"shop.csv": 'text,label\n"a,b\nc,d\n'},
        {},
        "a quote in the row at line 2 is never closed",
    ),
    (
        "columns twice",
        {"shop.csv": "text,text\na,b\n"},
        {},
        "names must be given and differ, got text twice",
    ),
    (
        "empty input",
        {"shop.csv": reviews() + ",a\n"},
        {},
        "1 row that can't be used:\n  .*shop.csv, line 18, the input is empty",
    ),
    (
        "one class",
        {"shop.csv": "text,label\n" + "x,a\n" * 9},
        {},
        "classes must be >= 2 in the training",
    ),
    ("no labels", {"shop.csv": "text,label\n" + "x,\n" * 9}, {}, "got 0 .no labels at all."),
    (
        "empty split",
        {"shop.csv": reviews(part="train")},
        {"split": {"column": "part"}},
        "task kind has no valid rows .data set shop.; give it some, .*valid: 0.1",
    ),
    (
        "unknown split",
        {"shop.csv": reviews(part="later")},
        {"split": {"column": "part"}},
        "split column 'part' must hold train, valid or test, found later; or say what its values",
    ),
    (
        "files differ",
        {"a.csv": reviews(), "b.csv": "text,stars\na,1\n"},
        {"split": {"files": {"train": "a.csv", "test": "b.csv"}, "valid": 0.2}},
        "the same columns; .*.csv and .*.csv differ in label, stars",
    ),
    ("a folder", {"shop.csv/a.txt": ""}, {}, "shop.csv must be a file, it is a folder"),
    (
        "not json",
        {"shop.jsonl": '{"text": "a", "label": "b"}\n{"text": \n'},
        {"source": "json"},
        "shop.jsonl, line 2, the line is not valid JSON",
    ),
    (
        "not parquet",
        {"shop.parquet": "text"},
        {"source": "parquet"},
        "shop.parquet is no parquet file",
    ),
    ("not arrow", {"shop.arrow": "text"}, {"source": "arrow"}, "must be an Arrow stream file"),
    ("not npz", {"shop.npz": "text"}, {"source": "npz"}, "must be an .npz of numbers and texts"),
    (
        "empty folder",
        {"pictures/readme.txt": ""},
        {"source": "image_folder", "path": "pictures", "inputs": {"image": "image"}},
        r"has no image at any depth; looked for .* \.bmp, .*passed over: 1 with the ending \.txt",
    ),
    (
        "file named twice",
        {"pictures/metadata.csv": "file_name,label\n1.png,a\n1.png,b\n", "pictures/1.png": png()},
        {"source": "image_folder", "path": "pictures", "inputs": {"image": "image"}},
        "metadata.csv, line 3: 1.png was named before; a file is one row",
    ),
]


@pytest.mark.parametrize(
    ("files", "options", "message"), [f[1:] for f in FILES], ids=[f[0] for f in FILES]
)
def test_files(files: Any, options: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path, files)
    found = refusal(tmp_path, data(**options))
    assert re.search(message, found), found


PICTURES = [
    ("gone", None, "there is no file .*bad.png"),
    ("text", b"not a picture", "the content is not an image"),
    ("cut", png(64, 64)[:60], "damaged|truncated"),
    ("nothing", b"", "the content is not an image|empty"),
    ("bomb", partial(png, 10_000, 10_000), "must have <= 89,478,485 pixels"),
]


@pytest.mark.parametrize(
    ("content", "message"), [p[1:] for p in PICTURES], ids=[p[0] for p in PICTURES]
)
def test_pictures(
    content: bytes | Callable[[], bytes] | None, message: str, tmp_path: Path
) -> None:
    table = "photo,label\n" + "".join(f"{row}.png,{'ab'[row % 2]}\n" for row in range(12))
    write(tmp_path, {f"{row}.png": png(shade=row) for row in range(12)})
    write(tmp_path, {"shop.csv": table + "bad.png,a\n"})
    if content is not None:
        write(tmp_path, {"bad.png": content() if callable(content) else content})
    spec = data(inputs={"image": "photo"})
    found = refusal(tmp_path, spec)
    assert re.search(f"shop.csv, line 14, column photo: .*({message})", found), found
    module = loaded(tmp_path, spec, "data.on_bad_row=skip")
    assert sum(part["shop"].size for part in module.parts.values()) == 12
    assert any("1 bad row" in note for note in module.notes)


def test_a_picture_s_path_stays_in_the_folder(tmp_path: Path) -> None:
    write(
        tmp_path, {"inner/shop.csv": "photo,label\n../out.png,a\n/etc/passwd,b\n", "out.png": png()}
    )
    found = refusal(tmp_path, data(inputs={"image": "photo"}, path="inner/shop.csv"))
    assert "line 2, column photo: the path must stay below" in found
    assert "line 3, column photo: the path must stay below" in found


def test_bad_rows_are_left_out_on_request(tmp_path: Path) -> None:
    write(tmp_path, {"shop.csv": reviews() + "too,many,cells\n,a\n"})
    module = loaded(tmp_path, data(on_bad_row="skip"))
    assert sum(part["shop"].size for part in module.parts.values()) == 16
    (note,) = [note for note in module.notes if "left out" in note]
    assert note.startswith("shop: 2 bad rows left out\n")
    assert "line 18" in note
    assert "line 19" in note


def test_labels_that_training_lacks_are_dropped_on_request(tmp_path: Path) -> None:
    rows = [(f"t{n}", "ab"[n % 2], "train") for n in range(8)] + [("v", "a", "valid")]
    rows += [("x", "a", "test"), ("y", "zebra", "test")]
    write(
        tmp_path, {"shop.csv": "text,label,part\n" + "".join(",".join(row) + "\n" for row in rows)}
    )
    spec = data(split={"column": "part"})
    found = refusal(tmp_path, spec)
    assert "has labels in test that the training split lacks: zebra (first in " in found
    assert "shop.csv, line 12)" in found
    assert "data.tasks.kind.unseen=drop" in found
    module = loaded(tmp_path, spec, "data.tasks.kind.unseen=drop")
    assert module.parts["test"]["shop"].present["kind"].tolist() == [True, False]
    assert any("1 labels of kind in test don't count" in note for note in module.notes)


cells = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from(['"', ",", "\n", "\r", ";", " ", "\0"]),
    max_size=8,
)


@pytest.fixture
def config(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is the same for every file that is tried: most of the time goes there."""
    return composed(tmp_path, data(**request.param))


@pytest.mark.parametrize("config", [{}], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(cells, min_size=1, max_size=4), max_size=12).map(
        lambda rows: "\n".join(",".join(row) for row in rows)
    )
    | st.binary(max_size=60).map(lambda b: b.decode("latin-1")),
    st.sampled_from(["text,label\n", "", "text;label\n", "\ufefftext,label\r\n"]),
)
@example("\0", "")  # a zero byte as a column name
def test_no_csv_ends_in_a_traceback(
    tmp_path: Path, config: dict[str, Any], body: str, header: str
) -> None:
    """Whatever a file holds, its rows come out or an error says why."""
    write(tmp_path, {"shop.csv": (header + body).encode("utf-8", "surrogatepass")})
    try:
        module = set_up(config)
    except PollinateError as error:
        assert "shop" in str(error) or "kind" in str(error)  # either may come
    else:
        table = module.loaded["shop"].table
        rows = np.concatenate(list(module.loaded["shop"].rows.values()))
        assert sorted(rows.tolist()) == list(range(len(table)))  # no row is lost in silence


@pytest.mark.parametrize("config", [{"source": "json"}], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["text", "label", "extra"]),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | cells
            | st.lists(cells, max_size=3),
        )
        | st.integers(),
        max_size=12,
    ),
    st.booleans(),
)
@example([{"text": 9007199254740993}, {"text": 0.0}], False)  # no double precision number
def test_no_json_ends_in_a_traceback(
    tmp_path: Path, config: dict[str, Any], rows: list[Any], as_lines: bool
) -> None:
    text = "\n".join(map(json.dumps, rows)) if as_lines else json.dumps(rows)
    config["data"]["datasets"]["shop"]["path"] = str(tmp_path / f"shop.json{'l' * as_lines}")
    write(tmp_path, {f"shop.json{'l' * as_lines}": text})
    try:
        set_up(config)
    except PollinateError as error:
        assert str(error)  # either may come
