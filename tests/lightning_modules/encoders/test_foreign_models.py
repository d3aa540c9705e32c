"""Folders of models, and what checkpoints say of them, by a stranger: nothing of theirs is run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from datamodules.modalities.audio import EXTRACTORS, AudioModality
from lightning_modules.encoders.pretrained_files import local_copy
from lightning_modules.encoders.timm_image import check_arguments, create_network, describe_folder
from lightning_modules.encoders.transformers_audio import extractor_of
from lightning_modules.encoders.transformers_models import build_model, harmless, load_model
from pollinate.errors import PollinateError, UsageError
from pollinate.requirements import installed_spec, require
from tests import models
from tests.models import with_weights

pytest.importorskip("transformers", reason="needs the extra encoders")
pytest.importorskip("timm", reason="needs the extra encoders")


class Runs:
    """Unpickled, it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pipeline", "AutoModel", "Trainer", "", None, 3, ["pipeline"]])
def test_an_extractor_is_one_of_a_closed_list(kind: object, tmp_path: Path) -> None:
    settings = {
        "feature_extractor_type": kind,
        "task": "audio-classification",
        "model": str(tmp_path),
        "trust_remote_code": True,
    }
    with pytest.raises(PollinateError, match="the feature extractor must be one of"):
        AudioModality(assets={"extractor": settings, "rate": 16000, "features": 1})


@pytest.mark.parametrize("name", EXTRACTORS)
def test_each_kind_of_the_list_gives_what_networks_take(name: str) -> None:
    import transformers
    from transformers import SequenceFeatureExtractor

    assert issubclass(getattr(transformers, name), SequenceFeatureExtractor)


def test_a_folder_s_extractor_is_one_of_the_list(tmp_path: Path) -> None:
    folder = models.wav2vec2(tmp_path)
    file = folder / "preprocessor_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "feature_extractor_type": "pipeline"})
    )
    with pytest.raises(PollinateError, match="the feature extractor must be one of"):
        extractor_of(str(folder))


STRANGE = {
    "auto_map": {"AutoModel": "theirs--code.Model"},
    "attn_implementation": "theirs/kernel",
    "_attn_implementation": "theirs/kernel",
    "quantization_config": {"quant_method": "theirs"},
    "use_pretrained_backbone": True,
    "backbone": "theirs",
}


def test_a_checkpoint_s_architecture_names_neither_code_nor_other_models() -> None:
    network: Any = build_model({**models.BERT, **STRANGE}, "encoder.text.model", "input_ids")
    assert network.config._attn_implementation in ("sdpa", "eager")
    assert not hasattr(network.config, "auto_map")
    assert harmless({"a": [{**STRANGE, "b": 1}]}) == {"a": [{"b": 1}]}


@pytest.mark.parametrize("kind", ["theirs", None, 3, "../theirs"])
def test_an_unknown_architecture_is_one_error(kind: object) -> None:
    with pytest.raises(PollinateError, match=r"must be a model that transformers"):
        build_model({**models.BERT, "model_type": kind}, "encoder.text.model", "input_ids")


def test_a_folder_s_configuration_names_no_code_either(tmp_path: Path) -> None:
    folder = with_weights(models.bert(tmp_path))
    file = folder / "config.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, **STRANGE}))
    network = build_model(known, "encoder.text.model", "input_ids")
    load_model(network, str(folder), "encoder.text.model")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "theirs/model"})
    )
    with pytest.raises(PollinateError, match="it is an adapter"):
        load_model(network, str(folder), "encoder.text.model")


TIMM = {"architecture": "test_resnet", "fixed": False}


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "PICKLE"},
        {"pretrained": True},
        {"pretrained_cfg": {"file": "PICKLE"}},
        {"pretrained_cfg_overlay": {"file": "PICKLE"}},
        {"cache_dir": "PICKLE"},
        {"scriptable": True},
        {"block": {"a": 1}},
        {"norm_layer": "os.system"},
        {"act_layer": "../x"},
    ],
)
def test_timm_s_factory_takes_nothing_from_a_file(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    own = json.loads(json.dumps(arguments).replace("PICKLE", str(file)))
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "test_resnet", "model_args": own, "mean": [0], "std": [1]})
    )
    found = describe_folder(tmp_path)
    with pytest.raises(PollinateError, match="takes no argument"):
        create_network({**TIMM, "arguments": found["arguments"]}, None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["local-dir:/tmp/theirs", "hf-hub:theirs/model", "../theirs", "os.system", 3, None, ""]
)
def test_timm_s_network_is_one_of_its_own(name: object) -> None:
    with pytest.raises(PollinateError, match="must be a network of timm"):
        create_network({"architecture": name, "arguments": {}, "fixed": False}, None)


def test_a_network_s_own_arguments_are_taken() -> None:
    check_arguments("vit_tiny_patch16_224", {"depth": 3, "act_layer": "gelu", "global_pool": "avg"})
    check_arguments("test_efficientnet", {"drop_rate": 0.1, "output_stride": 8})
    known = {**TIMM, "arguments": {"global_pool": "max", "stem_type": ""}}
    assert create_network(known, None) is not None


def test_nothing_of_the_current_folder_is_imported_to_look_for_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    (tmp_path / "theirs.py").write_text(text)
    (tmp_path / "theirs_too").mkdir()
    (tmp_path / "theirs_too" / "__init__.py").write_text(text)
    (tmp_path / "theirs_too" / "inner.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("theirs", "theirs_too", "theirs_too.inner", "theirs_too.absent", "", "a b"):
        with pytest.raises(UsageError, match="is not installed"):
            require(name, "quickstart")
        with pytest.raises(UsageError, match="is not installed"):
            local_copy(f"package:{name}/x.bin")
    assert not (tmp_path / "ran").exists()
    assert installed_spec("yaml") is not None


def test_a_package_s_file_is_inside_it() -> None:
    with pytest.raises(UsageError, match="must stay inside the package"):
        local_copy("package:yaml/../../../../../../etc/passwd")
