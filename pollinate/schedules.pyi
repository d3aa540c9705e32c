# written by python -m pollinate.stubs
from lightning_modules.schedules.base import Schedule as Schedule
from lightning_modules.schedules.constant import Constant as Constant
from lightning_modules.schedules.cosine import Cosine as Cosine
from lightning_modules.schedules.linear import Linear as Linear
from lightning_modules.schedules.one_cycle import OneCycle as OneCycle
