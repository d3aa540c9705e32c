# written by python -m pollinate.stubs
from collections.abc import Mapping
from lightning_modules.transfer.adaptors import Adaptors as Adaptors
from lightning_modules.transfer.annealed import AnnealedTransfer as AnnealedTransfer
from lightning_modules.transfer.attention_transfer import AttentionTransfer as AttentionTransfer
from lightning_modules.transfer.base import Transfer as Transfer
from lightning_modules.transfer.branch_search import CoefficientSearch as CoefficientSearch
from lightning_modules.transfer.branch_search import CoordinateSearch as CoordinateSearch
from lightning_modules.transfer.branch_search import DividedSearch as DividedSearch
from lightning_modules.transfer.branch_search import GridSearch as GridSearch
from lightning_modules.transfer.branch_search import RandomSearch as RandomSearch
from lightning_modules.transfer.cka import CKA as CKA
from lightning_modules.transfer.decoupled import Decoupled as Decoupled
from lightning_modules.transfer.dist import Dist as Dist
from lightning_modules.transfer.distillation import Distillation as Distillation
from lightning_modules.transfer.feature_transfer import FeatureTransfer as FeatureTransfer
from lightning_modules.transfer.feature_transfer import SingleSourceTransfer as SingleSourceTransfer
from lightning_modules.transfer.fork_merge import ForkMerge as ForkMerge
from lightning_modules.transfer.gkd import GKD as GKD
from lightning_modules.transfer.group import TransferGroup as TransferGroup
from lightning_modules.transfer.hinton import Hinton as Hinton
from lightning_modules.transfer.hints import Hints as Hints
from lightning_modules.transfer.init import Init as Init
from lightning_modules.transfer.l2_sp import L2SP as L2SP
from lightning_modules.transfer.lwf import LwF as LwF
from lightning_modules.transfer.none import NoTransfer as NoTransfer
from lightning_modules.transfer.relational import Relational as Relational
from lightning_modules.transfer.sequence_level import SequenceLevel as SequenceLevel
from lightning_modules.transfer.several import Several as Several
from lightning_modules.transfer.source_attention import AttentionMixer as _AttentionMixer
from lightning_modules.transfer.source_attention import SourceAttention as SourceAttention
from lightning_modules.transfer.source_fusion import FrozenSourceTransfer as FrozenSourceTransfer
from lightning_modules.transfer.source_fusion import SourceMixer as SourceMixer
from lightning_modules.transfer.weighted_fusion import WeightedFusion as WeightedFusion
from lightning_modules.transfer.weighted_fusion import WeightedMixer as _WeightedMixer

class AttentionMixer(_AttentionMixer):
    def __init__(self, dim: int=..., widths: Mapping[str, int]=...) -> None: ...

class WeightedMixer(_WeightedMixer):
    def __init__(self, dim: int=..., widths: Mapping[str, int]=..., own: float=...) -> None: ...
