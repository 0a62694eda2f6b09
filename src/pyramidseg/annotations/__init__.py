"""Annotations to masks: polygons and run lengths. Masks to polygons: contours, simplification, small regions."""
