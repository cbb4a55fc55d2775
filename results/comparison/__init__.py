"""WER of every attention at equal look-ahead, on real speech."""
