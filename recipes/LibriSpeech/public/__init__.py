"""Public encoders, such as wav2vec 2.0 and Whisper, as experiments start from them: their shapes, and their weights."""
