"""COCO annotations: instances and panoptic."""
