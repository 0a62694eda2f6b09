"""Checkpoints of other libraries as models with equal logits."""
