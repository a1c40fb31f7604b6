"""The deep-learning library: manifests, codecs, sources, builders, export, certificates."""
