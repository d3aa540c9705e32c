# written by python -m pollinate.stubs
from lightning_modules.calibration.base import Calibrator as Calibrator
from lightning_modules.calibration.reliability import Reliability as Reliability
from lightning_modules.calibration.risk_coverage import RiskCoverage as RiskCoverage
from lightning_modules.calibration.temperature import LabelTemperatures as LabelTemperatures
from lightning_modules.calibration.temperature import Temperature as Temperature
from lightning_modules.calibration.variance_scaling import VarianceScaling as VarianceScaling
from lightning_modules.calibration.vector_scaling import VectorScaling as VectorScaling
