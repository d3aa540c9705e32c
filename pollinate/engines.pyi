# written by python -m pollinate.stubs
from pipeline.engines.engine import Engine as Engine
from pipeline.engines.local import LocalEngine as LocalEngine
from pipeline.engines.ray import RayEngine as RayEngine
from pipeline.engines.slurm import SlurmEngine as SlurmEngine
