"""Configurations in files of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.conftest import Fit
from tests.pipeline.shop_file import SHOP


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
