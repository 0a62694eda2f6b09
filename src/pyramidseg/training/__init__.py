"""Training: losses, optimiser, checkpoints, and the loop that turns them over."""
