# written by python -m pollinate.stubs
from datamodules.batch import Batch as Batch
from datamodules.batch import MixedBatch as MixedBatch
from datamodules.data_errors import DataErrorPolicy as DataErrorPolicy
from datamodules.dataset import Dataset as Dataset
from datamodules.features import Features as Features
from datamodules.mixed_datamodule import MixedDataModule as MixedDataModule
from lightning_modules.module import MultiTaskModule as MultiTaskModule
from lightning_modules.network import MultiTaskNetwork as MultiTaskNetwork
from lightning_modules.transferability.base import Evidence as Evidence
from pipeline.api.explanations import Explanations as Explanations
from pipeline.api.looks import Inspection as Inspection
from pipeline.api.looks import inspect as inspect
from pipeline.api.looks import plan as plan
from pipeline.api.looks import rank_sources as rank_sources
from pipeline.api.runs import Model as Model
from pipeline.api.runs import Run as Run
from pipeline.api.runs import calibrate as calibrate
from pipeline.api.runs import evaluate as evaluate
from pipeline.api.runs import explain as explain
from pipeline.api.runs import export as export
from pipeline.api.runs import fit as fit
from pipeline.api.runs import load as load
from pipeline.api.runs import merge as merge
from pipeline.api.searches import Search as Search
from pipeline.api.searches import search as search
from pipeline.api.studies import Study as Study
from pipeline.api.studies import study as study
from pipeline.transfer_sources import SourceOpener as SourceOpener
from pollinate import averaging as averaging
from pollinate import balancers as balancers
from pollinate import calibration as calibration
from pollinate import conformal as conformal
from pollinate import encoders as encoders
from pollinate import engines as engines
from pollinate import fusions as fusions
from pollinate import merging as merging
from pollinate import out_of_scope as out_of_scope
from pollinate import samplers as samplers
from pollinate import schedules as schedules
from pollinate import scores as scores
from pollinate import sources as sources
from pollinate import tasks as tasks
from pollinate import tracking as tracking
from pollinate import transfer as transfer
from pollinate import trunks as trunks
from pollinate import tuning as tuning
from pollinate.errors import PollinateError as PollinateError
from pollinate.errors import UsageError as UsageError
from pollinate.recipes import Recipe as Recipe

__version__: str
__all__ = [
    "PollinateError",
    "UsageError",
    "__version__",
    "Batch",
    "MixedBatch",
    "MixedDataModule",
    "DataErrorPolicy",
    "Dataset",
    "MultiTaskModule",
    "MultiTaskNetwork",
    "Features",
    "Evidence",
    "Recipe",
    "SourceOpener",
    "fit",
    "Run",
    "load",
    "Model",
    "merge",
    "evaluate",
    "calibrate",
    "export",
    "explain",
    "Explanations",
    "study",
    "Study",
    "search",
    "Search",
    "inspect",
    "Inspection",
    "rank_sources",
    "plan",
    "averaging",
    "balancers",
    "calibration",
    "conformal",
    "encoders",
    "engines",
    "fusions",
    "merging",
    "out_of_scope",
    "samplers",
    "schedules",
    "scores",
    "sources",
    "tasks",
    "tracking",
    "transfer",
    "trunks",
    "tuning",
]
