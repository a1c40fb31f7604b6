"""Segmentation and super-resolution against what the machine can do, and against peers."""
