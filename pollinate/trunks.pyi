# written by python -m pollinate.stubs
from collections.abc import Sequence
from lightning_modules.trunks.base import PerTaskTrunk as PerTaskTrunk
from lightning_modules.trunks.base import Trunk as Trunk
from lightning_modules.trunks.cgc import CGC as _CGC
from lightning_modules.trunks.cross_stitch import CrossStitch as _CrossStitch
from lightning_modules.trunks.dselect_k import DSelectK as _DSelectK
from lightning_modules.trunks.film import FiLM as _FiLM
from lightning_modules.trunks.learning_to_branch import LearningToBranch as _LearningToBranch
from lightning_modules.trunks.mixture_of_experts import ExpertMixture as ExpertMixture
from lightning_modules.trunks.mmoe import MMoE as _MMoE
from lightning_modules.trunks.mtan import MTAN as _MTAN
from lightning_modules.trunks.ple import PLE as _PLE
from lightning_modules.trunks.shared import SharedTrunk as _SharedTrunk
from lightning_modules.trunks.sluice import Sluice as _Sluice
from lightning_modules.trunks.soft_sharing import SoftSharing as _SoftSharing
from lightning_modules.trunks.task_queries import TaskQueries as _TaskQueries

class CGC(_CGC):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., shared: int=2, own: int=1, depth: int=1, dropout: float=0.1) -> None: ...

class CrossStitch(_CrossStitch):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., depth: int=1, dropout: float=0.1, own: float=0.9) -> None: ...

class DSelectK(_DSelectK):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., experts: int=4, k: int=2, gamma: float=1.0, entropy: float=0.001, unused: float=0.001, depth: int=1, dropout: float=0.1) -> None: ...

class FiLM(_FiLM):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., depth: int=2, dropout: float=0.1) -> None: ...

class LearningToBranch(_LearningToBranch):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., depth: int=2, branches: int=3, dropout: float=0.1, start: float=5.0, end: float=0.1, steps: int=1000, seed: int=0) -> None: ...

class MMoE(_MMoE):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., experts: int=4, depth: int=1, dropout: float=0.1) -> None: ...

class MTAN(_MTAN):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., depth: int=2, dropout: float=0.1) -> None: ...

class PLE(_PLE):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., levels: int=2, shared: int=2, own: int=1, depth: int=1, dropout: float=0.1) -> None: ...

class SharedTrunk(_SharedTrunk):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., depth: int=1, dropout: float=0.1) -> None: ...

class Sluice(_Sluice):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., depth: int=2, dropout: float=0.1, own: float=0.9, orthogonality: float=0.001) -> None: ...

class SoftSharing(_SoftSharing):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., depth: int=1, dropout: float=0.1, strength: float=0.001) -> None: ...

class TaskQueries(_TaskQueries):
    def __init__(self, tasks: Sequence[str]=..., dim: int=..., heads: int=4, depth: int=1, dropout: float=0.1) -> None: ...
