"""Outlines to masks."""
