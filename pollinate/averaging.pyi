# written by python -m pollinate.stubs
from lightning_modules.parameter_averaging.base import ParameterAveraging as ParameterAveraging
from lightning_modules.parameter_averaging.diloco import DiLoCo as DiLoCo
from lightning_modules.parameter_averaging.local_sgd import LocalSGD as LocalSGD
