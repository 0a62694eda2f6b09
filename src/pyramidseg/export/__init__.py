"""Exports of models to files for other runtimes, each compared with its model before it is published."""
