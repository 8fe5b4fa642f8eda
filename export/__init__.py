"""Checkpoint -> one ONNX file with its card: `python -m export`, run from the checkout."""
