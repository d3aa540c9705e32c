# written by python -m pollinate.stubs
from collections.abc import Sequence
from lightning_modules.fusions.attention import Attention as _Attention
from lightning_modules.fusions.base import Fusion as Fusion
from lightning_modules.fusions.concat import Concat as _Concat
from lightning_modules.fusions.gated import Gated as _Gated

class Attention(_Attention):
    def __init__(self, modalities: Sequence[str]=..., dim: int=..., heads: int=4) -> None: ...

class Concat(_Concat):
    def __init__(self, modalities: Sequence[str]=..., dim: int=...) -> None: ...

class Gated(_Gated):
    def __init__(self, modalities: Sequence[str]=..., dim: int=...) -> None: ...
