# written by python -m pollinate.stubs
from lightning_modules.out_of_scope.base import OutOfScopeScore as OutOfScopeScore
from lightning_modules.out_of_scope.base import ScopeRows as ScopeRows
from lightning_modules.out_of_scope.energy import Energy as Energy
from lightning_modules.out_of_scope.energy_and_distance import EnergyAndDistance as EnergyAndDistance
from lightning_modules.out_of_scope.mahalanobis import Mahalanobis as Mahalanobis
from lightning_modules.out_of_scope.nearest import NearestRows as NearestRows
