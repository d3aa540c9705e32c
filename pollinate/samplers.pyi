# written by python -m pollinate.stubs
from datamodules.samplers.adaptive import Adaptive as Adaptive
from datamodules.samplers.annealed import AnnealedTemperature as AnnealedTemperature
from datamodules.samplers.base import Sampler as Sampler
from datamodules.samplers.fixed import FixedShares as FixedShares
from datamodules.samplers.proportional import Proportional as Proportional
from datamodules.samplers.temperature import Temperature as Temperature
from datamodules.samplers.uniform import Uniform as Uniform
