"""Dataset checks: `check_dataset` before training, and `inspect_dataset`, which finds every defect.

Both call `inspect_pair` for each image-mask pair: the check reads headers and masks, the inspection decodes everything.
"""
