"""A configuration is composed from files and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.configuration.composition import compose, compose_with_requirements, load_yaml
from pipeline.configuration.groups import SHIPPED, find_option
from pollinate.errors import UsageError
from tests.pipeline.conftest import ALLOW, CONF, Fit
from tests.pipeline.shop_file import SHOP


def test_source_keeps_options_under_target_and_columns_beside(fit: Fit) -> None:
    dataset = fit()["data"]["datasets"]["mnist"]
    assert dataset == {
        "source": {"_target_": "tests.pipeline.standins.Rows", "name": "mnist"},
        "inputs": {"image": "image"},
        "split": {"train": 0.7, "valid": 0.1, "test": 0.2, "stratify": "digit"},
    }


def test_task_type_becomes_a_node(fit: Fit) -> None:
    task = fit("data.tasks.digit.label_smoothing=0.1")["data"]["tasks"]["digit"]
    assert task == {
        "type": {"_target_": "tests.pipeline.standins.Classification", "label_smoothing": 0.1},
        "dataset": "mnist",
        "target": "digit",
    }


def test_source_and_type_can_be_nodes(fit: Fit) -> None:
    rows = "{_target_: tests.pipeline.standins.Rows, path: a.csv}"
    config = fit(
        f"data.datasets.own={{source: {rows}, inputs: {{text: t}}, split: {{column: s}}}}",
        "data.tasks.own={dataset: [own, reviews], target: y, "
        "type: {_target_: tests.pipeline.standins.Classification}}",
    )
    assert config["data"]["datasets"]["own"]["source"]["path"] == "a.csv"
    assert config["data"]["tasks"]["own"]["dataset"] == ["own", "reviews"]


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        (["seed=3"], "seed", 3),
        (["+seed=3"], "seed", 3),
        (["++seed=3"], "seed", 3),
        (["seed=1", "seed=2"], "seed", 2),
        (["dim=64"], "trunk.dim", 64),
        (["trunk.dropout=0.3"], "trunk.dropout", 0.3),
        (["trainer.max_steps=7"], "trainer.max_steps", 7),
        (["trainer.max_time={hours: 2}"], "trainer.max_time", {"hours": 2}),
        (["trainer.devices=[0,1]"], "trainer.devices", [0, 1]),
        (["trainer.max_epochs=null"], "trainer.max_epochs", None),
        (["trainer=ddp", "trainer.devices=4"], "trainer.devices", 4),
        (["trainer=ddp"], "trainer.accelerator", "auto"),
        (["name='a, b'"], "name", "a, b"),
        (["run_dir=/tmp/ä#(1)=2"], "run_dir", "/tmp/ä#(1)=2"),
        (["run_dir=~/runs/a"], "run_dir", str(Path.home() / "runs/a")),
        (["balancer=uncertainty", "balancer.initial=1"], "balancer.initial", 1),
        (["balancer=uncertainty", "balancer=equal"], "balancer", {"_target_": "Balancer"}),
        (["encoder/image=cnn", "encoder.image.width=16"], "encoder.image.width", 16),
        (["optimizer=adamw"], "optimizer._target_", "torch.optim.AdamW"),
        (
            ["optimizer=torch", "optimizer.name=RMSprop", "optimizer.alpha=0.9"],
            "optimizer",
            {"_target_": "torch.optim.RMSprop", "lr": 1e-3, "lr_scale": {}, "alpha": 0.9},
        ),
        (["optimizer.lr_scale.encoders.text=2"], "optimizer.lr_scale", {"encoders.text": 2}),
        (["optimizer.lr_scale={encoders.text: 2}"], "optimizer.lr_scale", {"encoders.text": 2}),
        (["data.tasks.digit.type.label_smoothing=0.2"], "data.tasks.digit.dataset", "mnist"),
        (["experiment=null"], "seed", 0),
    ],
)
def test_overrides(fit: Fit, overrides: list[str], path: str, expected: object) -> None:
    found = fit(*overrides)
    for key in path.split("."):
        found = found[key]
    if path == "balancer":
        expected = {"_target_": "tests.pipeline.standins.Balancer"}
    assert found == expected


def test_tilde_deletes(fit: Fit) -> None:
    assert "digit" not in fit("~data.tasks.digit")["data"]["tasks"]


def test_group_without_option(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "reviews.csv").touch()
    config = fit(f"data={tmp_path}/shop.yaml", "encoder/image=null")
    assert set(config["encoder"]) == {"audio", "text"}


def test_group_outside_the_defaults_list(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "encoder/audio").mkdir(parents=True)
    text = "_target_: tests.pipeline.standins.Encoder\n"
    (tmp_path / "encoder/audio/spectrogram.yaml").write_text(text)
    config = fit("encoder/audio=spectrogram", "encoder.audio.width=16", dirs=(tmp_path,))
    assert config["encoder"]["audio"]["width"] == 16


class TestExperiments:
    """Experiments change the whole configuration, also the command's own values."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment/deep.yaml").write_text(
            "# @package _global_\ndefaults:\n  - override /balancer: uncertainty\n"
            "seed: 7\ndim: 32\ntrunk:\n  depth: 4\n"
        )
        return tmp_path

    def test_by_name(self, fit: Fit, folder: Path) -> None:
        config = fit("experiment=deep", dirs=(folder,))
        assert (config["seed"], config["trunk"]["dim"], config["trunk"]["depth"]) == (7, 32, 4)
        assert config["balancer"]["initial"] == 0.0

    def test_by_path(self, fit: Fit, folder: Path) -> None:
        config = fit(f"experiment={folder}/experiment/deep.yaml", "seed=8")
        assert (config["seed"], config["trunk"]["depth"]) == (8, 4)


def test_allow_targets_come_from_the_command_line(fit: Fit) -> None:
    assert fit()["allow_targets"] == ["tests.pipeline.standins"]
    assert compose("evaluate", ["checkpoint=a"])["allow_targets"] == []


def test_requirements_are_taken_out() -> None:
    composed = compose_with_requirements("fit", [ALLOW], [CONF])
    assert composed.requires == {"yaml": "quickstart"}
    assert "_requires_" not in str(composed.config)


@pytest.mark.parametrize(
    ("command", "overrides", "expected"),
    [
        ("evaluate", ["checkpoint=a.ckpt"], {"split": "test", "batch_size": 256, "run_dir": None}),
        ("predict", ["checkpoint=a", "input=b", "output=c"], {"on_bad_row": "skip", "tasks": None}),
        ("predict", ["checkpoint=a", "input=b", "output=c", "tasks=[x]"], {"tasks": ["x"]}),
        ("explain", ["checkpoint=a", "input=b"], {"output": None, "steps": 12, "answers": {}}),
        ("explain", ["checkpoint=a", "input=b", "answers={x: 1}"], {"answers": {"x": 1}}),
    ],
)
def test_small_commands(command: str, overrides: list[str], expected: dict[str, object]) -> None:
    config = compose(command, overrides)
    assert {key: config[key] for key in expected} == expected


def test_missing_values_are_listed_together() -> None:
    with pytest.raises(UsageError) as caught:
        compose("predict", ["on_bad_row=ignore"])
    message = str(caught.value)
    for part in ("4 problems", "checkpoint is missing", "input is", "output is", "skip, error"):
        assert part in message


def test_works_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert compose("evaluate", ["checkpoint=a"])["split"] == "test"
    assert SHIPPED.is_dir()


@pytest.mark.skipif(
    find_option("encoder/image", "cnn", [SHIPPED]) is None, reason="needs all of the packages"
)
def test_shipped_defaults_compose() -> None:
    config = compose("fit")
    assert set(config["encoder"]) == {"audio", "image", "text"}


def test_a_shipped_file_is_read_once_and_each_reader_may_change_what_it_got() -> None:
    first = load_yaml(SHIPPED / "fit.yaml")
    first["loader"]["workers"] = 7
    first["defaults"].clear()
    second = load_yaml(SHIPPED / "fit.yaml")
    assert second["loader"]["workers"] == 0
    assert {"data": "quickstart"} in second["defaults"]


def test_hydra_state_is_left_alone(fit: Fit) -> None:
    from hydra.core.global_hydra import GlobalHydra

    before, folder = GlobalHydra.instance().is_initialized(), Path.cwd()
    fit()
    assert GlobalHydra.instance().is_initialized() == before
    assert os.fspath(Path.cwd()) == os.fspath(folder)


def test_an_option_beside_a_name_keeps_the_name() -> None:
    for given in ("encoder.text.tune=last_blocks", "encoder.text.tune={name: last_blocks}"):
        node = compose("fit", [given, "encoder.text.tune.blocks=3"])["encoder"]["text"]["tune"]
        assert node == {
            "_target_": "pollinate.tuning.LastBlocks",
            "blocks": 3,
        }


class TestBroken:
    """Files and command lines that can't be read."""

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            (
                SHOP + "  sentiment: {dataset: reviews}\n",
                ["shop.yaml, line 9, column 3: found duplicate key sentiment"],
            ),
            ("datasets: {a: 1\ntasks: [", ["shop.yaml, line 2, column "]),
            ("datasets:\n\t- a\n", ["shop.yaml, line 2, column 1", "cannot start any token"]),
            ("- a\n", ["shop.yaml must be a mapping", "got a list"]),
            ("defaults: [nope]\n", ["a defaults list names data/nope", "options: quickstart"]),
            (SHOP + "seed: ${nope.x}\n", ["data.seed can't be resolved", "nope"]),
            (SHOP + "seed: ${a\n", ["shop.yaml can't be read", "${a"]),
            (SHOP + "allow_targets: [os]\n", ["unknown key data.allow_targets"]),
            (
                "# @package _global_\nallow_targets: [os]\n",
                ["allow_targets is only for the command line", "os"],
            ),
        ],
    )
    def test_files(
        self, refused: Callable[..., str], tmp_path: Path, text: str, parts: list[str]
    ) -> None:
        (tmp_path / "shop.yaml").write_text(text)
        message = refused(f"data={tmp_path}/shop.yaml")
        assert all(part in message for part in parts), message
        assert "Config search path" not in message

    def test_not_utf8(self, refused: Callable[..., str], tmp_path: Path) -> None:
        (tmp_path / "shop.yaml").write_bytes(b"name: caf\xe9\n")
        assert "shop.yaml can't be read" in refused(f"data={tmp_path}/shop.yaml")

    @pytest.mark.parametrize(
        ("override", "parts"),
        [
            ("seed", ["key=value", "'seed'"]),
            ("name=a,b", ["takes one value", "a,b"]),
            ("name=[a", ["can't read", "name=[a"]),
            ("balancer=equl", ["'equl'; did you mean equal?", ", equal, "]),
            ("gradients.every_n_steps=-1", ["gradients.every_n_steps must be >= 0, got -1"]),
            ("balancer.losses=uncertanty", ["balancer.losses has no option", "uncertainty?"]),
            (
                "balancer.losses={name: uncertainty, initiall: 1}",
                ["unknown option balancer.losses.initiall", "initial?"],
            ),
            ("balancer.method=mgdaa", ["balancer.method has no option", "did you mean mgda?"]),
            ("encoder/image=cnm", ["encoder/image has no option", "did you mean cnn?"]),
            ("encodr/image=cnn", ["not a group", "did you mean encoder/image?"]),
            ("data=nope.yaml", ["there is no config file", "/nope.yaml"]),
            ("task=classification", ["data.tasks.NAME.type=OPTION"]),
            ("source=csv", ["data.datasets.NAME.source=OPTION"]),
            ("augment=flip", ["set data.image.augment=OPTION"]),
            ("trunk.dim=${dimm}", ["trunk.dim", "dimm"]),
            ("data.tasks.digit.type=clasification", ["data.tasks.digit.type", "classification?"]),
            ("data.datasets.mnist.source=cvs", ["data.datasets.mnist.source", "csv?"]),
            ("~nope", ["nope"]),
            ("allow_targets=[a-b]", ["allow_targets must be a list of packages", "a-b"]),
            ("hydra.run.dir=x", ["unknown key hydra"]),
        ],
    )
    def test_overrides(self, refused: Callable[..., str], override: str, parts: list[str]) -> None:
        message = refused(override)
        assert all(part in message for part in parts), message

    def test_config_dir_must_be_a_folder(self, refused: Callable[..., str]) -> None:
        assert "--config-dir must be a folder" in refused(dirs=(Path("/nope"),))

    def test_unknown_command(self) -> None:
        with pytest.raises(UsageError, match="did you mean evaluate"):
            compose("evaluat")


class TestUserFiles:
    """Files of the user, by path and by folder."""

    @pytest.mark.parametrize(
        "name",
        ["shop.yaml", "shop.yml", "my shop (1).yaml", "nan.yaml", "商店.yaml", "quickstart.yaml"],
    )
    def test_file_by_path(self, fit: Fit, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(SHOP)
        data = fit(f"data={tmp_path / name}")["data"]
        assert data["datasets"]["reviews"]["source"]["path"] == str(tmp_path / "reviews.csv")

    def test_relative_to_the_current_folder(
        self, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "shop.yaml").write_text(SHOP)
        monkeypatch.chdir(tmp_path)
        config = fit("data=shop.yaml", "data.datasets.reviews.path=other.csv")
        assert config["data"]["datasets"]["reviews"]["source"]["path"] == "other.csv"

    def test_fills_in_what_a_user_leaves_out(self, fit: Fit, tmp_path: Path) -> None:
        (tmp_path / "shop.yaml").write_text(SHOP)
        data = fit(f"data={tmp_path}/shop.yaml")["data"]
        assert (data["seed"], data["image"]["channels"], data["text"]["max_length"]) == (0, 3, 160)

    def test_any_group(self, fit: Fit, tmp_path: Path) -> None:
        text = "_target_: tests.pipeline.standins.Trunk\ndim: ${dim}\ndepth: 5\n"
        (tmp_path / "deep.yaml").write_text(text)
        (tmp_path / "wide.yaml").write_text("_target_: tests.pipeline.standins.Encoder\nwidth: 16")
        config = fit(f"trunk={tmp_path}/deep.yaml", f"encoder/text={tmp_path}/wide.yaml")
        assert (config["trunk"]["depth"], config["encoder"]["text"]["width"]) == (5, 16)

    def test_last_of_two_files_wins(self, fit: Fit, tmp_path: Path) -> None:
        for folder, depth in (("a", 1), ("b", 2)):
            (tmp_path / folder).mkdir()
            text = f"_target_: tests.pipeline.standins.Trunk\ndepth: {depth}\n"
            (tmp_path / folder / "deep.yaml").write_text(text)
        config = fit(f"trunk={tmp_path}/a/deep.yaml", f"trunk={tmp_path}/b/deep.yaml")
        assert config["trunk"]["depth"] == 2

    def test_config_dir(self, fit: Fit, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data/shop.yaml").write_text(SHOP)
        data = fit("data=shop", dirs=(tmp_path,))["data"]
        source = data["datasets"]["reviews"]["source"]
        assert source["path"] == str(tmp_path / "data/reviews.csv")

    def test_first_folder_wins(self, fit: Fit, tmp_path: Path) -> None:
        (tmp_path / "trunk").mkdir()
        text = "_target_: tests.pipeline.standins.Trunk\ndepth: 9\n"
        (tmp_path / "trunk/shared.yaml").write_text(text)
        assert fit(dirs=(tmp_path,))["trunk"]["depth"] == 9

    def test_defaults_list_of_a_file_finds_shipped_options(self, fit: Fit, tmp_path: Path) -> None:
        (tmp_path / "more.yaml").write_text("defaults: [quickstart]\nseed: 5\n")
        data = fit(f"data={tmp_path}/more.yaml")["data"]
        assert data["seed"] == 5
        assert "mnist" in data["datasets"]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("rows.csv", "{folder}/rows.csv"),
            ("../rows.csv", "{parent}/rows.csv"),
            ("/rows.csv", "/rows.csv"),
            ("~/rows.csv", "{home}/rows.csv"),
            ("https://example.org/rows.csv", "https://example.org/rows.csv"),
            ("[a.csv, b.csv]", ["{folder}/a.csv", "{folder}/b.csv"]),
            ("${name}.csv", "fit.csv"),
        ],
    )
    def test_paths(self, fit: Fit, tmp_path: Path, value: str, expected: str | list[str]) -> None:
        (tmp_path / "shop.yaml").write_text(SHOP.replace("reviews.csv", value))
        source = fit(f"data={tmp_path}/shop.yaml")["data"]["datasets"]["reviews"]["source"]
        places = {"folder": tmp_path, "parent": tmp_path.parent, "home": Path.home()}
        wanted = [expected] if isinstance(expected, str) else expected
        found = source["path"] if isinstance(source["path"], list) else [source["path"]]
        assert found == [text.format(**places) for text in wanted]

    def test_source_of_the_user(self, fit: Fit, tmp_path: Path) -> None:
        (tmp_path / "source").mkdir()
        text = "_target_: tests.pipeline.standins.Rows\npath: rows.db\n"
        (tmp_path / "source/database.yaml").write_text(text)
        (tmp_path / "shop.yaml").write_text(SHOP.replace("csv\n    path: reviews.csv", "database"))
        config = fit(f"data={tmp_path}/shop.yaml", dirs=(tmp_path,))
        source = config["data"]["datasets"]["reviews"]["source"]
        assert source["path"] == str(tmp_path / "source/rows.db")


def test_a_file_is_read_again_when_it_changed_and_its_values_are_the_reader_s(
    tmp_path: Path,
) -> None:
    first, other = tmp_path / "first.yaml", tmp_path / "below" / "other.yaml"
    other.parent.mkdir()
    for file in (first, other):
        file.write_text("a: {b: [1]}\npath: rows.csv\n")
    found = load_yaml(first)
    found["a"]["b"].append(2)
    assert load_yaml(first)["a"]["b"] == [1]
    assert load_yaml(other)["path"] == str(tmp_path / "below" / "rows.csv")
    first.write_text("a: {b: [3]}\npath: rows.csv\n")
    assert load_yaml(first)["a"]["b"] == [3]
