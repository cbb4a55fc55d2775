"""Latency: declared, measured, against depth, and how late words come."""
