"""FPN checkpoints of segmentation_models.pytorch, called smp here as its users call it."""
