"""``import pollinate``: what it offers, what editors see of it, and that it costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import pollinate as po
from pollinate.namespaces import FAMILIES, exported
from pollinate.stubs import stubs

PACKAGE = Path(po.__file__).parent
HEAVY = ("torch", "lightning", "pandas", "numpy", "omegaconf", "rich", "mlflow", "datasets")
PROGRAM = """\
import pollinate as po

trunk = po.trunks.MMoE(experts=2)
balancer = po.balancers.UPGrad()
built = po.balancers.UPGrad(["a", "b"])
run: po.Run = po.fit("shop.yaml", ["seed=1"], quiet=True)
scores: dict[str, dict[str, float]] = run.scores
model: po.Model = po.merge({"a": run, "b": "runs/b"}, po.merging.Average())
po.trunks.MMoE(expert=2)
po.trunks.MMoF()
po.fitt("shop.yaml")
"""

# what other packages say of their names doesn't matter here, and takes minutes to read
SETTINGS = """\
[mypy]
strict = True
follow_imports = skip
mypy_path = {folder}
[mypy-pollinate.*,pipeline.*,lightning_modules.*,datamodules.*]
follow_imports = silent
[mypy-matplotlib.*,numpy.*,pandas.*,psutil.*,scipy.*,tokenizers.*,torch.*,yaml.*]
follow_imports_for_stubs = True
"""


def test_every_name_leads_to_something_with_a_docstring() -> None:
    for name in po.__all__:
        assert name == "__version__" or getattr(po, name).__doc__, name
    for namespace in FAMILIES:
        module = import_module(f"pollinate.{namespace}")
        for name in module.__all__:
            assert getattr(module, name).__doc__, f"{namespace}.{name}"


def test_a_wrong_name_finds_the_right_one() -> None:
    with pytest.raises(AttributeError, match="pollinate has no 'evalute'; did you mean evaluate"):
        _ = po.evalute  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no 'UPGard'; did you mean UPGrad"):
        _ = po.balancers.UPGard  # type: ignore[attr-defined]


def test_importing_is_light() -> None:
    code = (
        "import json, sys, pollinate; dir(pollinate);"
        f"json.dump([name for name in {HEAVY} if name in sys.modules], sys.stdout)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(found.stdout) == []


def test_the_stubs_are_up_to_date() -> None:
    for name, content in stubs().items():
        assert (PACKAGE / name).read_text(encoding="utf-8") == content, f"run make stubs: {name}"


def test_a_stub_has_every_class() -> None:
    for namespace in FAMILIES:
        content = (PACKAGE / f"{namespace}.pyi").read_text(encoding="utf-8")
        for name in exported(namespace):
            assert f"as {name}\n" in content or f"\nclass {name}(" in content, name


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mypy") is None, reason="needs the dev extra")
def test_a_type_checker_knows_the_names(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text(SETTINGS.format(folder=PACKAGE.parent))
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.partition("program.py:")[2] for line in found.stdout.splitlines()]
    errors = [line for line in lines if " error: " in line]
    assert [line.partition(":")[0] for line in errors] == ["9", "10", "11"], found.stdout
    assert 'Unexpected keyword argument "expert"' in errors[0]
    assert 'no attribute "MMoF"' in errors[1]
    assert 'maybe "fit"' in errors[2]
