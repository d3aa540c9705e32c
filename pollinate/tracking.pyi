# written by python -m pollinate.stubs
from pipeline.tracking.loggers import LocalRunLogger as LocalRunLogger
from pipeline.tracking.loggers import MLflowRunLogger as MLflowRunLogger
from pipeline.tracking.loggers import RunLogger as RunLogger
