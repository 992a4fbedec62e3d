"""Bundles for ONNX Runtime and ExecuTorch: graphs, exporters, runtime, parity."""
