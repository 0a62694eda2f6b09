"""Metrics of a model on labelled images, their plots, and the evaluation report."""
