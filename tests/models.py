"""Small models of other libraries, written into folders as those libraries save them."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("small", "big", "cup", "hat", "pen", "no", "text", "good", "bad")
PIECES = [
    *SPECIAL,
    *WORDS,
    *ascii_lowercase,
    *digits,
    *(f"##{x}" for x in ascii_lowercase + digits),
]
BERT = {
    "model_type": "bert",
    "vocab_size": len(PIECES),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
ROBERTA = {
    **BERT,
    "model_type": "roberta",
    "vocab_size": 300,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 300,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 32,
    "bos_token_id": 256,
    "eos_token_id": 256,
}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}
T5 = {
    "model_type": "t5",
    "vocab_size": 300,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}

SOUNDS = {
    "model_type": "audio-spectrogram-transformer",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 8,
    "frequency_stride": 8,
    "time_stride": 8,
    "max_length": 32,
    "num_mel_bins": 64,
}
SAMPLES = {
    "model_type": "wav2vec2",
    "vocab_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_feat_extract_layers": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


def pieces() -> Tokenizer:
    """Words and their letters, in lower case; [CLS] a [SEP] b [SEP], as BERT has it."""
    core = Tokenizer(models.WordPiece({p: i for i, p in enumerate(PIECES)}, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(list(SPECIAL))
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return core


def letters(*special: str, first: bool) -> Tokenizer:
    """Bytes, the special tokens before or after them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*special, *alphabet] if first else [*alphabet, *special]
    core = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s?\w+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.add_special_tokens(list(special))
    return core


def roberta_letters() -> Tokenizer:
    """<s> a </s></s> b </s>; padding is 1."""
    core = letters("<s>", "<pad>", "</s>", first=True)
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return core


def save(folder: Path, config: dict[str, Any], core: Tokenizer, **special: Any) -> Path:
    """Write config.json and the tokenizer; no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    core.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**30, **special}
    for name, content in (("config.json", config), ("tokenizer_config.json", settings)):
        text = json.dumps(content, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def bert(folder: Path) -> Path:
    """An encoder whose padding is 0, with two-sided pairs."""
    special = {"pad_token": "[PAD]", "model_input_names": ["input_ids", "token_type_ids"]}
    return save(folder, BERT, pieces(), unk_token="[UNK]", **special)


def roberta(folder: Path) -> Path:
    """An encoder whose padding is 1, and whose positions begin after it."""
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return save(folder, ROBERTA, roberta_letters(), **special)


def gpt2(folder: Path) -> Path:
    """A decoder without padding."""
    return save(folder, GPT2, letters("<end>", first=False), eos_token="<end>")


def llama(folder: Path) -> Path:
    """A decoder with rotary positions, and a form of conversations."""
    names = ("<pad>", "</s>", "<user>", "<model>")
    template = (
        "{% for m in messages %}{{ '<user>' if m.role == 'user' else '' }}{{ m.content }}"
        "{% endfor %}{{ '<model>' if add_generation_prompt else '' }}"
    )
    special = {"pad_token": "<pad>", "eos_token": "</s>", "chat_template": template}
    core = letters(*names, first=True)
    core.decoder = decoders.ByteLevel()
    return save(folder, LLAMA, core, **special)


def t5(folder: Path) -> Path:
    """An encoder with a decoder, its positions relative."""
    core = letters("<pad>", "</s>", first=True)
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return save(folder, T5, core, pad_token="<pad>", eos_token="</s>")


def ast(folder: Path) -> Path:
    """A network on spectrograms."""
    extractor = {
        "feature_extractor_type": "ASTFeatureExtractor",
        "num_mel_bins": 64,
        "max_length": 32,
        "sampling_rate": 16000,
    }
    return save_sound(folder, SOUNDS, extractor)


def wav2vec2(folder: Path) -> Path:
    """A network on samples, trained with a mask."""
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": True,
        "return_attention_mask": True,
        "sampling_rate": 8000,
    }
    return save_sound(folder, SAMPLES, extractor)


def save_sound(folder: Path, config: dict[str, Any], extractor: dict[str, Any]) -> Path:
    """Write config.json and preprocessor_config.json; no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("config.json", config), ("preprocessor_config.json", extractor)):
        text = json.dumps(content, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def with_weights(folder: Path, seed: int = 0) -> Path:
    """Add the weights of a random start."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(seed)
    AutoModel.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def timm_folder(folder: Path, name: str, seed: int = 0) -> Path:
    """A network of timm with the weights of a random start."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    network = timm.create_model(name, num_classes=0)
    folder.mkdir(parents=True, exist_ok=True)
    pretrained = {k: v for k, v in network.pretrained_cfg.items() if k != "custom_load"}
    config = {"architecture": name, "num_classes": 0, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder
