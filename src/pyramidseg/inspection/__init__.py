"""Dataset checks: `check_dataset` before training, and `inspect_dataset`, which finds every defect.

Both call `inspect_pair` for each image-mask pair: the check reads headers and masks, the inspection decodes everything.
"""

from pyramidseg.inspection.class_statistics import SplitSummary
from pyramidseg.inspection.training_check import DatasetSummary, check_dataset

__all__ = ["DatasetSummary", "SplitSummary", "check_dataset"]
