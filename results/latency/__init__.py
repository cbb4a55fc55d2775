"""Latency: declared, measured, against depth, and as a listener feels it."""
