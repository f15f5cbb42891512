"""Measurements: latency, parity, work, accuracy, ablation, and how well scores tell lost from found (``spm-bench``)."""
