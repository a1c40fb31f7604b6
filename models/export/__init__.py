"""From a network, or somebody's ONNX file, to a graph that can be served, and the proof that it may be."""
