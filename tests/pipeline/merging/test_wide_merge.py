"""Wide paths are fitted, not trained: merging takes them as they are, or says why it can't."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from lightning_modules.merging.average import Average
from pipeline.merge import main
from pipeline.merging.compatibility import check_fitted
from pollinate.errors import UsageError
from tests.lean_fit import fit
from tests.merged_runs import QUIET, best, models, uncalibrated, weights
from tests.merging import models as in_memory
from tests.merging import result
from tests.small_shop import SMALL, reviews

FILE = """
datasets:
  reviews:
    source: csv
    path: {path}
    split: {{train: 0.6, valid: 0.2, test: 0.2}}
    inputs: {{text: review}}
tasks:
  mood: {{dataset: reviews, type: classification, target: mood}}
text: {{vocab_size: 300, max_length: 16, wide: true}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run ``start``, and the models ``a`` and ``b`` that were trained on from it."""
    root = tmp_path_factory.mktemp("wide")
    reviews(100).to_csv(root / "reviews.csv", index=False)
    (root / "shop.yaml").write_text(FILE.format(path=root / "reviews.csv"))
    given = [f"data={root / 'shop.yaml'}", *SMALL, "trainer.max_steps=1", "dim=8"]
    assert fit([*given, f"run_dir={root / 'start'}"]) == 0
    for name in "ab":
        checkpoint = read_checkpoint(best(root / "start"))
        for key, value in checkpoint["state_dict"].items():
            if ".wide." not in key and value.is_floating_point():
                value += 0.01 * torch.randn_like(value)
        write_checkpoint(checkpoint, root / f"{name}.ckpt")
    return root


@pytest.mark.parametrize("method", ["average", "ties", "ensemble"])
def test_they_stay_as_they_are(method: str, home: Path, tmp_path: Path) -> None:
    given = [models(home, "a", "b"), f"method={method}", "evaluate=false", QUIET]
    base = [f"base={best(home / 'start')}"] if method == "ties" else []
    assert main([*given, *base, f"output={tmp_path / 'out'}"]) == 0

    found, start = weights(best(tmp_path / "out")), weights(best(home / "start"))
    fitted = [name for name in found if ".wide." in name]
    assert len(fitted) == (10 if method == "ensemble" else 5)
    for name in fitted:
        own = f"network.{name[name.index('wide.') :]}"
        assert torch.equal(found[name], start[own])


def test_an_ensemble_has_members_with_and_without_them(home: Path, tmp_path: Path) -> None:
    plain = read_checkpoint(home / "a.ckpt")
    plain["pollinate"]["config"]["data"]["text"]["wide"] = False
    state = plain["state_dict"]
    plain["state_dict"] = {name: value for name, value in state.items() if ".wide." not in name}
    write_checkpoint(plain, tmp_path / "plain.ckpt")
    given = f"models=[{tmp_path / 'plain.ckpt'},{home / 'b.ckpt'}]"
    out = tmp_path / "out"
    assert main([given, "method=ensemble", f"output={out}", QUIET, "evaluate=false"]) == 0
    rows = {"text": ["good bread", "stale tea"]}

    def glad(checkpoint: Path) -> torch.Tensor:
        found = uncalibrated(checkpoint).predict(rows).answers["mood"]
        return torch.tensor([row["probabilities"]["glad"] for row in found if row])

    expected = (glad(tmp_path / "plain.ckpt") + glad(home / "b.ckpt")) / 2
    torch.testing.assert_close(glad(best(out)), expected)


def test_those_of_other_rows_are_refused() -> None:
    one = {"wide.t.bias": torch.tensor([1.0, 2.0]), "wide.u.bias": torch.ones(1)}
    same, other = dict(one), {"wide.t.bias": torch.tensor([1.0])}

    check_fitted(in_memory([one, same]), list(one))
    with pytest.raises(
        UsageError, match=r"wide\.t\.bias must be one in all models, and m2's isn't"
    ):
        check_fitted(in_memory([one, same, other]), list(one))


def test_the_base_needs_none_of_its_size() -> None:
    def state(count: int, value: float) -> dict[str, torch.Tensor]:
        return {"w.weight": torch.full((1, 2), value), "wide.t.idf": torch.ones(count)}

    merged = in_memory([state(3, 1.0), state(3, 3.0)], state(0, 0.0), buffers=["wide.t.idf"])
    found = result(Average(), merged)
    assert found["w.weight"].tolist() == [[2.0, 2.0]]
    assert found["wide.t.idf"].tolist() == [1.0, 1.0, 1.0]
