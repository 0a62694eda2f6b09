"""Masks: from what a dataset keeps (index files, colours, polygons) to source values, and from these to class ids."""
