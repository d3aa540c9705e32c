"""What a model in MLflow consists of: weights, code, and a description of both.

``export_model`` needs torch and runs where training did; ``package_for_mlflow`` needs MLflow
and runs in the process that sends. Neither imports what the other needs: it takes seconds."""

from __future__ import annotations

import json
import platform
import shutil
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pollinate.errors import PollinateError
from pollinate.foreign import read_json

if TYPE_CHECKING:
    from datamodules.inputs import InputColumns  # imports torch
    from lightning_modules.tasks.base import Task

OWN_PACKAGES = ("pollinate", "pipeline", "datamodules", "lightning_modules", "configs")
NEEDED_PACKAGES = (  # what loading and predicting import
    "mlflow",
    "torch",
    "torchvision",
    "torchmetrics",
    "lightning",
    "tokenizers",
    "numpy",
    "pandas",
    "pillow",
    "omegaconf",
)


def copy_code(folder: Path, allow_targets: Sequence[str]) -> list[str]:
    """Copy our packages and the user's; return pip's lines for those that pip installed."""
    requirements = []
    for name in dict.fromkeys(
        [*OWN_PACKAGES, *(target.partition(".")[0] for target in allow_targets)]
    ):
        place = package_location(name)
        if name not in OWN_PACKAGES and is_pip_installed(place):
            requirements += [pinned_requirement(found) for found in packages_distributions()[name]]
        elif place.is_dir():
            shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(place, folder)
    return requirements


def package_location(package: str) -> Path:
    """Return the folder or file of an importable package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise PollinateError(
            f"allow_targets names {package}, whose code can't be found, so the model can't take it "
            "along; give it an __init__.py"
        )
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def is_pip_installed(place: Path) -> bool:
    """Say whether pip put it there, so that pip can do so elsewhere."""
    return place.is_relative_to(sysconfig.get_path("purelib"))


def pinned_requirement(distribution: str) -> str:
    """Return pip's line for the installed version; its build, ``+cpu`` say, is not on PyPI."""
    return f"{distribution}=={version(distribution).partition('+')[0]}"


WEIGHTS, DESCRIPTION = "weights.ckpt", "model.json"
DATA_FOLDER, CODE_FOLDER, REQUIREMENTS = "data", "code", "requirements.txt"
PAIR_COLUMN = "text_pair"  # the column of a pair's second text
TEXT_COLUMNS = ("text", PAIR_COLUMN)
PARAMETERS = ("coverage", "risk", "answered", "false_alarms")  # of a request; 0: not asked for
FLAGS = ("per_class", "together")  # of a request
ANSWER_TYPES = {"str": "string", "float": "double"}
NETWORK_KEYS = (
    "model",
    "encoder",
    "fusion",
    "trunk",
    "dim",
)  # what the network depends on, besides the data's form


@dataclass
class ModelDescription:
    """model.json.

    inputs: columns that go in; answers: {column: str or float}, what comes out.
    allow_targets: packages of the user's whose classes the network has.
    """

    inputs: list[str]
    answers: dict[str, str]
    allow_targets: list[str]


def export_model(checkpoint: Path, folder: Path, allow_targets: Sequence[str] = ()) -> None:
    """Write weights, description, requirements and code; an earlier export is replaced.

    Only what predicting needs: no optimizer, no paths of data, no address of a server.
    """
    from lightning_modules.checkpoints import read_checkpoint, write_checkpoint  # imports torch

    saved = read_checkpoint(checkpoint)
    shutil.rmtree(folder, ignore_errors=True)
    spec = saved["pollinate"]
    config = network_config(spec["config"])
    weights = {k: v for k, v in saved["state_dict"].items() if k.startswith("network.")}
    parts = {**spec, "config": config}
    for own in ("merged", "sources"):  # what other models are called, and where they are
        parts.pop(own, None)
    write_checkpoint({"state_dict": weights, "pollinate": parts}, folder / DATA_FOLDER / WEIGHTS)
    needed = [*NEEDED_PACKAGES, *extra_packages(config, allow_targets)]
    requirements = [pinned_requirement(name) for name in needed] + copy_code(
        folder / CODE_FOLDER, allow_targets
    )
    (folder / REQUIREMENTS).write_text("\n".join(requirements) + "\n", encoding="utf-8")
    tasks = trained_tasks(spec, allow_targets)
    description = ModelDescription(
        input_names(served_inputs(config, tasks)), answer_columns(spec, tasks), list(allow_targets)
    )
    text = json.dumps(asdict(description), indent=2)
    (folder / DATA_FOLDER / DESCRIPTION).write_text(text, encoding="utf-8")


def extra_packages(config: Mapping[str, Any], allow_targets: Sequence[str]) -> list[str]:
    """Return the packages that the network needs beside those of every network."""
    from lightning_modules.building import LINEAR, MEMBERS, MODEL
    from lightning_modules.encoders.base import PretrainedEncoder
    from lightning_modules.tuning.base import Tuning
    from pollinate.instantiate import find_target

    used = {name for data in config["data"]["datasets"].values() for name in data["inputs"]}
    used |= {"text" for task in config["data"]["tasks"].values() if "prompt" in task}

    def encoders_of(model: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        yield {} if model.get(MODEL) == LINEAR else model["encoder"]
        for member in model.get(MEMBERS, ()):
            yield from encoders_of(member)

    encoders = list(encoders_of(config))
    nodes = {
        f"encoder.{name}#{place}" if place else f"encoder.{name}": nodes[name]
        for place, nodes in enumerate(encoders)
        for name in sorted(used.intersection(nodes))
    }
    nodes |= {f"{key}.tune": node["tune"] for key, node in nodes.items() if node.get("tune")}
    kinds = [find_target(node["_target_"], allow_targets, key) for key, node in nodes.items()]
    needs = [kind.needs for kind in kinds if issubclass(kind, PretrainedEncoder | Tuning)]
    return list(dict.fromkeys(name for names in needs for name in names))


def trained_tasks(spec: Mapping[str, Any], allow_targets: Sequence[str]) -> dict[str, Task]:
    """Return {name: task} of a checkpoint, with what they learnt."""
    from lightning_modules.building import build_tasks

    tasks = build_tasks({**spec["config"], "allow_targets": list(allow_targets)})
    for name, task in tasks.items():
        task.load_state_dict(spec["learnt"]["tasks"][name])
    return tasks


def answer_columns(spec: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return {column: str or float} of the answers that a checkpoint's tasks give."""
    from lightning_modules.trust.stored import restore_trust

    trust = restore_trust(spec, tasks)
    found: dict[str, str] = {}
    for name, task in tasks.items():
        own = trust.tasks.get(name)
        more = own.sets.cell_types() if trust.coverage and own and own.sets else {}
        kinds = task.cell_types() | more
        found |= {f"{name}{suffix}": kind.__name__ for suffix, kind in kinds.items()}
    return found


def served_inputs(
    config: Mapping[str, Any], tasks: Mapping[str, Task]
) -> dict[str, dict[str, InputColumns]]:
    """Return {data set: {modality, or ``prompt/TASK``: its column, or columns, in training}}."""
    from lightning_modules.building import task_datasets
    from lightning_modules.predictor import with_prompts

    data = config["data"]
    inputs = {name: one["inputs"] for name, one in data["datasets"].items()}
    routes = {name: task_datasets(one) for name, one in data["tasks"].items()}
    return with_prompts(inputs, tasks, routes)


def network_config(config: Mapping[str, Any]) -> dict[str, Any]:
    from lightning_modules.building import COMBINE, MEMBERS

    data = config["data"]
    datasets = {name: {"inputs": dict(spec["inputs"])} for name, spec in data["datasets"].items()}
    known = {name: config.get(name) for name in (*NETWORK_KEYS, MEMBERS, COMBINE)}
    network = {name: node for name, node in known.items() if node is not None}
    return {**network, "data": {**data, "datasets": datasets}}


def package_for_mlflow(folder: Path) -> None:
    """Make an export a model of MLflow's, in place.

    ``mlflow.pyfunc.save_model`` would copy it and spend a second on comparing the requirements with
    what is installed, which is what they were made from.
    """
    import mlflow.pyfunc
    import yaml
    from mlflow.models import Model

    description = read_json(folder / DATA_FOLDER / DESCRIPTION)
    requirements = (folder / REQUIREMENTS).read_text(encoding="utf-8").split()
    python = platform.python_version()
    environments = {
        "python_env.yaml": {"python": python, "dependencies": [f"-r {REQUIREMENTS}"]},
        "conda.yaml": {
            "name": "mlflow-env",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": requirements}],
        },
    }
    for name, content in environments.items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    model = Model(signature=model_signature(description["inputs"], description["answers"]))
    mlflow.pyfunc.add_to_model(
        model,
        "pipeline.serving.pyfunc",
        data=DATA_FOLDER,
        code=CODE_FOLDER,
        conda_env="conda.yaml",
        python_env="python_env.yaml",
    )
    model.save(str(folder / "MLmodel"))


def input_names(inputs: Mapping[str, Mapping[str, InputColumns]]) -> list[str]:
    """Return the columns that a model reads.

    They are its modalities, and text_pair for pairs of texts. Columns of prompts have the names of
    training; a modality whose columns are among them needs none of its own.
    """
    from datamodules.inputs import columns_named

    asked = prompt_columns(inputs)
    own = [
        (modality, given)
        for columns in inputs.values()
        for modality, given in columns.items()
        if not is_prompt(modality) and not asked.issuperset(columns_named(given))
    ]
    pairs = any(modality == "text" and not isinstance(given, str) for modality, given in own)
    return sorted({modality for modality, _ in own} | asked | ({PAIR_COLUMN} if pairs else set()))


def prompt_columns(inputs: Mapping[str, Mapping[str, InputColumns]]) -> set[str]:
    """Return the columns that prompts name."""
    from datamodules.inputs import columns_named

    return {
        column
        for columns in inputs.values()
        for name, given in columns.items()
        if is_prompt(name)
        for column in columns_named(given)
    }


def is_prompt(name: str) -> bool:
    """Say whether an input is a task's prompts."""
    from datamodules.prompts import PROMPT

    return name.startswith(PROMPT)


def model_signature(inputs: Sequence[str], answers: Mapping[str, str]) -> Any:
    """Return MLflow's signature: raw values in; label, probability and error out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    # of any type: as string a null would be the word None, as binary it would fail the request
    anything = AnyType()  # type: ignore[no-untyped-call]  # MLflow's is without types
    columns_in: list[ColSpec | TensorSpec] = [
        ColSpec(anything, name, required=False) for name in inputs
    ]
    columns_out: list[ColSpec | TensorSpec] = [
        ColSpec(ANSWER_TYPES[kind], name, required=False) for name, kind in answers.items()
    ]
    params = [ParamSpec(name, "double", 0.0) for name in PARAMETERS]
    flags = [ParamSpec(name, "boolean", default=False) for name in FLAGS]
    asked = ParamSchema([*params, *flags])
    answered = Schema([*columns_out, ColSpec("string", "error")])
    return ModelSignature(Schema(columns_in), answered, asked)
