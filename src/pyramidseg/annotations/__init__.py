"""Annotations to masks: polygons and run lengths. The other direction, masks to polygons, belongs in `contours.py`."""
