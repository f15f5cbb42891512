"""The exporter: reference model, checkpoints, graphs, bundles and their verification."""
