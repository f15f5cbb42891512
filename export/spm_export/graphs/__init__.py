"""The ONNX graphs in all their forms."""
