"""HTTP only: routes, dependencies, the error table. No SQL, no ONNX Runtime."""
