"""Pretraining of an encoder as a classifier."""
