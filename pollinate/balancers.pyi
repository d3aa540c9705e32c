# written by python -m pollinate.stubs
from collections.abc import Mapping
from collections.abc import Sequence
from lightning_modules.balancers.aligned_mtl import AlignedMTL as _AlignedMTL
from lightning_modules.balancers.auto_lambda import AutoLambda as _AutoLambda
from lightning_modules.balancers.base import Balancer as Balancer
from lightning_modules.balancers.base import LossBalancer as LossBalancer
from lightning_modules.balancers.base import Scalarization as Scalarization
from lightning_modules.balancers.cagrad import CAGrad as _CAGrad
from lightning_modules.balancers.config import ConFIG as _ConFIG
from lightning_modules.balancers.cosmos import Cosmos as _Cosmos
from lightning_modules.balancers.cr_mogm import CRMOGM as _CRMOGM
from lightning_modules.balancers.db_mtl import DBMTL as _DBMTL
from lightning_modules.balancers.double_sampling import DoubleSampling as DoubleSampling
from lightning_modules.balancers.dualproj import DualProj as _DualProj
from lightning_modules.balancers.dynamic_weight_average import DynamicWeightAverage as _DynamicWeightAverage
from lightning_modules.balancers.equal import Equal as _Equal
from lightning_modules.balancers.excess_mtl import ExcessMTL as _ExcessMTL
from lightning_modules.balancers.fairgrad import FairGrad as _FairGrad
from lightning_modules.balancers.famo import FAMO as _FAMO
from lightning_modules.balancers.fixed import Fixed as _Fixed
from lightning_modules.balancers.geometric_mean import GeometricMean as _GeometricMean
from lightning_modules.balancers.graddrop import GradDrop as _GradDrop
from lightning_modules.balancers.gradient_base import GradientBalancer as GradientBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer as GramianBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer as JacobianBalancer
from lightning_modules.balancers.gradient_base import PreferenceBalancer as PreferenceBalancer
from lightning_modules.balancers.gradnorm import GradNorm as _GradNorm
from lightning_modules.balancers.gradvac import GradVac as _GradVac
from lightning_modules.balancers.imtl_g import IMTLG as _IMTLG
from lightning_modules.balancers.imtl_l import IMTLL as _IMTLL
from lightning_modules.balancers.krum import Krum as _Krum
from lightning_modules.balancers.log_loss import LogLoss as _LogLoss
from lightning_modules.balancers.mgda import MGDA as _MGDA
from lightning_modules.balancers.moco import MoCo as _MoCo
from lightning_modules.balancers.modo import MoDo as _MoDo
from lightning_modules.balancers.nash_mtl import NashMTL as _NashMTL
from lightning_modules.balancers.pbi import PBI as _PBI
from lightning_modules.balancers.pcd import PCD as _PCD
from lightning_modules.balancers.pcgrad import PCGrad as _PCGrad
from lightning_modules.balancers.random import Random as _Random
from lightning_modules.balancers.random_gradient import RandomGradient as _RandomGradient
from lightning_modules.balancers.sdmgrad import SDMGrad as _SDMGrad
from lightning_modules.balancers.smooth_tchebycheff import SmoothTchebycheff as _SmoothTchebycheff
from lightning_modules.balancers.stochastic_sdmgrad import StochasticSDMGrad as _StochasticSDMGrad
from lightning_modules.balancers.trimmed_mean import TrimmedMean as _TrimmedMean
from lightning_modules.balancers.uncertainty import Uncertainty as _Uncertainty
from lightning_modules.balancers.upgrad import UPGrad as _UPGrad

class AlignedMTL(_AlignedMTL):
    def __init__(self, tasks: Sequence[str]=..., scale: str='min', preference: Mapping[str, float] | None=None, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class AutoLambda(_AutoLambda):
    def __init__(self, tasks: Sequence[str]=..., primary: Sequence[str]=..., lr: float=0.01, trial_lr: float | None=None, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class CAGrad(_CAGrad):
    def __init__(self, tasks: Sequence[str]=..., c: float=0.4, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class CRMOGM(_CRMOGM):
    def __init__(self, tasks: Sequence[str]=..., method: GramianBalancer=..., rate: float=0.9, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class ConFIG(_ConFIG):
    def __init__(self, tasks: Sequence[str]=..., preference: Mapping[str, float] | None=None, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class Cosmos(_Cosmos):
    def __init__(self, tasks: Sequence[str]=..., strength: float=1.0, preference: Mapping[str, float] | None=None) -> None: ...

class DBMTL(_DBMTL):
    def __init__(self, tasks: Sequence[str]=..., beta: float=0.9, sigma: float=0.0, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class DualProj(_DualProj):
    def __init__(self, tasks: Sequence[str]=..., preference: Mapping[str, float] | None=None, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class DynamicWeightAverage(_DynamicWeightAverage):
    def __init__(self, tasks: Sequence[str]=..., temperature: float=2.0) -> None: ...

class Equal(_Equal):
    def __init__(self, tasks: Sequence[str]=...) -> None: ...

class ExcessMTL(_ExcessMTL):
    def __init__(self, tasks: Sequence[str]=..., lr: float=0.01, warmup: int=1, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class FAMO(_FAMO):
    def __init__(self, tasks: Sequence[str]=..., lr: float=0.025, decay: float=0.001, ideal: Mapping[str, float] | None=None) -> None: ...

class FairGrad(_FairGrad):
    def __init__(self, tasks: Sequence[str]=..., alpha: float=1.0, normalize: bool=True, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class Fixed(_Fixed):
    def __init__(self, tasks: Sequence[str]=..., task_weights: Mapping[str, float] | None=None) -> None: ...

class GeometricMean(_GeometricMean):
    def __init__(self, tasks: Sequence[str]=...) -> None: ...

class GradDrop(_GradDrop):
    def __init__(self, tasks: Sequence[str]=..., seed: int=0, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class GradNorm(_GradNorm):
    def __init__(self, tasks: Sequence[str]=..., alpha: float=1.5, lr: float=0.005, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class GradVac(_GradVac):
    def __init__(self, tasks: Sequence[str]=..., rate: float=0.01, seed: int=0, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class IMTLG(_IMTLG):
    def __init__(self, tasks: Sequence[str]=..., level: str='auto', losses: LossBalancer | None=None) -> None: ...

class IMTLL(_IMTLL):
    def __init__(self, tasks: Sequence[str]=..., initial: float=0.0) -> None: ...

class Krum(_Krum):
    def __init__(self, tasks: Sequence[str]=..., outliers: int=1, selected: int=2, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class LogLoss(_LogLoss):
    def __init__(self, tasks: Sequence[str]=..., epsilon: float=1e-08) -> None: ...

class MGDA(_MGDA):
    def __init__(self, tasks: Sequence[str]=..., norm: str='none', level: str='auto', losses: LossBalancer | None=None) -> None: ...

class MoCo(_MoCo):
    def __init__(self, tasks: Sequence[str]=..., beta: float=0.5, gamma: float=0.1, rho: float=0.0, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class MoDo(_MoDo):
    def __init__(self, tasks: Sequence[str]=..., gamma: float=0.1, rho: float=0.1, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class NashMTL(_NashMTL):
    def __init__(self, tasks: Sequence[str]=..., normalize: bool=True, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class PBI(_PBI):
    def __init__(self, tasks: Sequence[str]=..., penalty: float=1.0, preference: Mapping[str, float] | None=None, ideal: Mapping[str, float] | None=None) -> None: ...

class PCD(_PCD):
    def __init__(self, tasks: Sequence[str]=..., primary: str | None=None, tau: float=0.02, decay: float=0.999, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class PCGrad(_PCGrad):
    def __init__(self, tasks: Sequence[str]=..., seed: int=0, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class Random(_Random):
    def __init__(self, tasks: Sequence[str]=..., seed: int=0) -> None: ...

class RandomGradient(_RandomGradient):
    def __init__(self, tasks: Sequence[str]=..., seed: int=0, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class SDMGrad(_SDMGrad):
    def __init__(self, tasks: Sequence[str]=..., strength: float=0.3, preference: Mapping[str, float] | None=None, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class SmoothTchebycheff(_SmoothTchebycheff):
    def __init__(self, tasks: Sequence[str]=..., mu: float=1.0, preference: Mapping[str, float] | None=None, ideal: Mapping[str, float] | None=None, nadir: Mapping[str, float] | None=None, log: bool=False, warmup: int=5) -> None: ...

class StochasticSDMGrad(_StochasticSDMGrad):
    def __init__(self, tasks: Sequence[str]=..., strength: float=0.3, preference: Mapping[str, float] | None=None, lr: float=0.1, momentum: float=0.5, steps: int=20, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class TrimmedMean(_TrimmedMean):
    def __init__(self, tasks: Sequence[str]=..., trimmed: int=1, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class UPGrad(_UPGrad):
    def __init__(self, tasks: Sequence[str]=..., preference: Mapping[str, float] | None=None, level: str='auto', losses: LossBalancer | None=None) -> None: ...

class Uncertainty(_Uncertainty):
    def __init__(self, tasks: Sequence[str]=..., initial: float=0.0) -> None: ...
