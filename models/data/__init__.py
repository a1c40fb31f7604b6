"""Data sets: hostile archives in, one validated pack of encoded images with an index out. Torch-free."""
