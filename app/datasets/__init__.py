"""Data sets: named lines of validated, immutable versions. A version is one pack in the object store."""
