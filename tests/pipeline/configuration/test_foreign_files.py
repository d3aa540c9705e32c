"""Files that a stranger may have written: too much, nested too deep, or reading the environment."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.configuration.composition import compose, load_yaml
from pipeline.run_folder import RunFolder
from pollinate.errors import PollinateError, UsageError
from pollinate.files import as_yaml
from pollinate.foreign import MOST_DEPTH, check_extent, parse_json, parse_yaml, read_text

LAUGHS = "a0: &a0 [lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{k0: *a{n - 1}, k1: *a{n - 1}, k2: *a{n - 1}, <<: *a{n - 1}}}\n"
    for n in range(1, 20)
)
NESTED = "a: " + "[" * 5000 + "]" * 5000 + "\n"
DOUBLED = "".join(
    f"x{n}: [" + ", ".join([f"'${{data.x{n - 1}}}'"] * 10) + "]\n" for n in range(1, 12)
)
# (content of a data file, what its one line says)
BOMBS = {
    "aliases": (LAUGHS, "more than 200,000 values"),
    "merge keys": (MERGED, "more than 200,000 values"),
    "lists": (NESTED, "nested more than 64 deep"),
    "mappings": ("a: " + "{a: " * 5000 + "1" + "}" * 5000, "nested more than 64 deep"),
    "block": ("".join(" " * n + "a:\n" for n in range(200)), "nested more than 64 deep"),
    "itself": ("a: &a {b: *a}\n", "*a stands inside what it stands for"),
    "itself in a list": ("a: &a [*a]\n", "*a stands inside what it stands for"),
    "digits": (f"a: {'9' * 5000}\n", "can't be read as YAML"),
    "tag": ("a: !!python/object/apply:os.system [id]\n", "is not read"),
    "path tag": ("a: !!python/object/apply:pathlib.Path [id]\n", "is not read"),
    "wrong tag": ("a: !!timestamp b\n", "is not read"),
    "references": (
        "x0: ${data.x1}\nx1: ${data.x0}\n",
        "data.x0 stands inside itself: it names data.x1",
    ),
    "its own mapping": ("x: {y: '${data.x}'}\n", "stands inside itself"),
    "doubled lists": ("x0: [1, 2]\n" + DOUBLED, "must not stand for more than"),
    "doubled texts": (
        "x0: lol\n" + "".join(f"x{n}: '{f'${{data.x{n - 1}}}' * 10}'\n" for n in range(1, 12)),
        "must not stand for more than",
    ),
    "long chain": (
        "".join(f"x{n}: ${{data.x{n + 1}}}\n" for n in range(800)) + "x800: 1\n",
        "through more than 64 other keys",
    ),
    "long chain, end first": (
        "x0: 1\n" + "".join(f"x{n}: ${{data.x{n - 1}}}\n" for n in range(1, 800)),
        "can't be resolved",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_one_line_and_at_once(name: str, tmp_path: Path) -> None:
    text, message = BOMBS[name]
    (tmp_path / "theirs.yaml").write_text(f"datasets: {{}}\ntasks: {{}}\n{text}")
    began = time.process_time()
    with pytest.raises(UsageError) as caught:
        compose("inspect", [f"data={tmp_path}/theirs.yaml"])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert time.process_time() - began < 5


RESOLVERS = [
    "${oc.env:SECRET}",
    "x/${oc.env:SECRET}/y",
    "${oc.env:SECRET,none}",
    "${oc.decode:${oc.env:SECRET}}",
    "${oc.create:{a:1}}",
    "${oc.dict.values:data}",
    "${${name}.env:SECRET}",
    "${oc.${name}:SECRET}",
    "${data.${name}}",
    "${hydra:runtime.cwd}",
    "${.name}",
    "${..name}",
    "${oc.select:${name},1}",
    "${oc.select:data.name,${oc.env:SECRET}}",
    "\\${oc.env:SECRET}",
]


@pytest.mark.parametrize("text", RESOLVERS)
def test_a_file_may_not_read_the_environment(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2-hunter2")
    (tmp_path / "theirs.yaml").write_text(
        f"datasets: {{}}\ntasks: {{}}\nname: {json.dumps(text)}\n"
    )
    with pytest.raises(UsageError) as caught:
        compose("inspect", [f"data={tmp_path}/theirs.yaml"])
    assert "hunter2" not in str(caught.value)


def test_the_command_line_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "named")
    assert compose("fit", ["name='${oc.env:MINE}'"])["name"] == "named"


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {searchpath: ['pkg://theirs']}\n",
        "defaults: [{data: ../../secrets}]\n",
        "defaults: [../secrets]\n",
    ],
)
def test_a_file_can_neither_name_packages_nor_files_elsewhere(text: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"hydra|must name an option"):
        load_yaml(tmp_path / "theirs.yaml")


@pytest.mark.parametrize(
    "value", ["3", "a", "{a: 1}", "[{a: {}}]", "[{a: {}}, {b: {}}]", "[[a]]", "[3]"]
)
def test_a_malformed_defaults_list_is_one_error(value: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(f"# @package _global_\ndefaults: {value}\n")
    with pytest.raises(UsageError):
        compose("fit", [f"experiment={tmp_path}/theirs.yaml"])


@pytest.mark.parametrize("name", ["../../../secrets", "/tmp/secrets", "..", ""])
def test_an_option_s_name_leads_to_no_other_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(f"datasets: {{a: {{source: {name!r}}}}}\ntasks: {{}}\n")
    with pytest.raises(UsageError, match="has no option"):
        compose("inspect", [f"data={tmp_path}/theirs.yaml"])


def test_json_nested_deep_is_a_value_error() -> None:
    for depth in (MOST_DEPTH + 1, 1_000_000):
        with pytest.raises(ValueError, match="nested"):
            parse_json("[" * depth + "]" * depth)
    assert parse_json("[" * 9 + "]" * 9) is not None


def test_what_holds_itself_or_is_there_often_is_too_much() -> None:
    itself: list[object] = []
    itself.append(itself)
    with pytest.raises(ValueError, match="nested"):
        check_extent(itself)
    often: list[object] = [1] * 10
    for _ in range(9):
        often = [often] * 10
    with pytest.raises(ValueError, match="values"):
        check_extent({"a": often})
    check_extent({"a": [1, {"b": (2, 3)}]})


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="no regular file"):
            read_text(path)
    (tmp_path / "long").write_text("x" * 100)
    with pytest.raises(ValueError, match="100 bytes, at most 10"):
        read_text(tmp_path / "long", 10)


READ_ALIKE = "a: 1\nb: [1.5, 1e-3, yes, null, '01', 2020-01-01]\nc: {d: &x {e: 1}, f: *x, <<: *x}\n"


def test_ordinary_yaml_is_read_as_omegaconf_does(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    (tmp_path / "a.yaml").write_text(READ_ALIKE)
    expected = OmegaConf.to_container(OmegaConf.load(tmp_path / "a.yaml"))
    assert parse_yaml(READ_ALIKE) == expected


@pytest.mark.parametrize("text", ["${", "${a", "\\${x}", "a: b", "01", "no", "é", "${oc.env:HOME}"])
def test_any_text_can_be_kept_in_a_run_folder(text: str, tmp_path: Path) -> None:
    content = {"a": text, "b": [text, (1, None)]}
    (tmp_path / "config.yaml").write_text(as_yaml(content))
    assert RunFolder(tmp_path).read_config() == {"a": text, "b": [text, [1, None]]}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.yaml", lambda folder: folder.read_config()),
        ("summary.json", lambda folder: folder.read_summary()),
    ],
)
def test_a_run_folder_s_bombs_are_refused(
    name: str, read: Callable[[RunFolder], object], tmp_path: Path
) -> None:
    for text in ("[" * 100_000, LAUGHS if name == "config.yaml" else "[" * 90 + "]" * 90):
        (tmp_path / name).write_text(text)
        with pytest.raises(PollinateError, match="can't be read"):
            read(RunFolder(tmp_path))
