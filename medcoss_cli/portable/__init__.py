"""Networks as ONNX files: what is in them, how they are written and proved, and how they are used without torch."""
