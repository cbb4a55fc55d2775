"""Experiments on a machine without network."""
