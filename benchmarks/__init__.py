"""Measurements: latency, parity, accuracy."""
