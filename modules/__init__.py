"""Attention for speech under limits of latency, memory and compute."""
