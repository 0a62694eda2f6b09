"""Benchmarks and comparisons."""
