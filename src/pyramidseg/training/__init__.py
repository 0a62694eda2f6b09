"""Training: the loop (`loop.fit`), losses, optimizers and checkpoints."""
