"""Looking at a whole dataset: the check before the first epoch, and the inspection that finds every defect.

`check` reads headers and masks, and is what training runs first; `inspect` reads everything, and leaves a report.
"""

from pyramidseg.inspection.check import DatasetSummary, check_dataset
from pyramidseg.inspection.class_statistics import SplitSummary

__all__ = ["DatasetSummary", "SplitSummary", "check_dataset"]
