"""PyTorch, on NVIDIA GPUs and on CPUs."""
