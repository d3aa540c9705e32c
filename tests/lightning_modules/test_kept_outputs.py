from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from datamodules.batch import Batch
from lightning_modules.kept_outputs import KeptOutputs
from tests.tiny import images, multitask, ready, task, texts, trainer

ROUTES = {"mood": ("notes", "mails"), "slots": ("notes",)}


def rows(*index: int) -> Batch:
    return Batch({}, {}, {}, torch.tensor(index))


def known(*labelled: int) -> torch.Tensor:
    return torch.tensor(labelled).bool()


def test_rows_come_in_one_order_whatever_the_batches() -> None:
    kept = KeptOutputs(ROUTES)
    batch = {"mails": rows(1, 0), "notes": rows(5, 2, 7)}
    scores = torch.tensor([[0.5], [0.2], [0.7], [0.1], [0.0]], dtype=torch.float64)
    kept.add(batch, "mood", scores, torch.tensor([5, 2, 7, 1, 0]), known(1, 1, 1, 1, 1))
    kept.add({"notes": rows(3, 4)}, "mood", torch.tensor([[3.0], [4.0]]), torch.tensor([3, 4]),
             known(0, 1))  # fmt: skip
    found = kept.take()["mood"]
    assert {name: own.tolist() for name, own in found["rows"].items()} == {
        "notes": [2, 4, 5, 7],
        "mails": [0, 1],
    }
    assert found["target"].tolist() == [2, 4, 5, 7, 0, 1]
    assert found["output"].dtype == torch.float32
    assert torch.allclose(found["output"][:, 0], torch.tensor([0.2, 4.0, 0.5, 0.7, 0.0, 0.1]))
    assert kept.take() == {}  # it starts anew


def test_words_are_as_wide_as_the_longest_row() -> None:
    kept = KeptOutputs(ROUTES)
    for index, width in ((1, 1), (0, 2)):
        target = torch.full((1, width), index)
        kept.add({"notes": rows(index)}, "slots", torch.ones(1, width, 3), target, known(1))
    found = kept.take()["slots"]
    assert found["target"].tolist() == [[0, 0], [1, -1]]
    assert found["output"].sum(dim=(1, 2)).tolist() == [6, 3]


def test_a_row_of_two_processes_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    other = KeptOutputs(ROUTES)
    other.add({"notes": rows(3, 0)}, "mood", torch.tensor([[3.0], [0]]), torch.tensor([3, 0]),
              known(1, 1))  # fmt: skip

    def gather(own: Any, everyone: list[Any] | None) -> None:
        assert everyone is not None
        everyone[:] = [own, other.parts]

    monkeypatch.setattr("lightning_modules.kept_outputs.is_distributed", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "gather_object", gather)
    kept = KeptOutputs(ROUTES)
    kept.add({"notes": rows(2, 0)}, "mood", torch.tensor([[2.0], [0]]), torch.tensor([2, 0]),
             known(1, 1))  # fmt: skip
    found = kept.take()["mood"]
    assert found["rows"]["notes"].tolist() == found["target"].tolist() == [0, 2, 3]
    assert found["output"].tolist() == [[0], [2], [3]]


def test_a_module_keeps_what_is_asked_for(tmp_path: Path) -> None:
    data = ready({"notes": texts(), "shapes": images()}, {"a": task("notes"), "b": task("shapes")})
    module = multitask(data)
    module.keep_outputs = ["valid"]
    runner = trainer(tmp_path)
    runner.validate(module, data, verbose=False)
    runner.test(module, data, verbose=False)
    assert list(module.outputs) == ["valid"]
    for name, own in module.outputs["valid"].items():
        right = own["output"].argmax(dim=1) == own["target"]
        assert right.float().mean().item() == pytest.approx(
            module.results["valid"][name]["accuracy"]
        )
        dataset = data.parts["valid"][data.tasks[name].datasets[0]]
        assert torch.equal(own["target"], dataset.targets[name][dataset.present[name]])
