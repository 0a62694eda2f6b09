"""Speed against segmentation_models.pytorch and against the machine's own limit: `python -m benchmarks.speed`."""
