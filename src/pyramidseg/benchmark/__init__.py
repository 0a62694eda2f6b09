"""Timing models on the machine at hand."""
