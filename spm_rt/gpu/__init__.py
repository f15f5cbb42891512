"""CUDA: driver, kernels, frames that are on the GPU already."""
