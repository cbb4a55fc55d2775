"""Trained systems: loading, streaming sessions, sound files and microphones, ONNX export."""
