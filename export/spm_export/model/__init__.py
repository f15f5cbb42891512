"""The reference model in PyTorch, its checkpoints, configurations and weights."""
