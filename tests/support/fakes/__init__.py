"""Stand-ins: a backend without a network, a bundle without files, TensorRT without a compiler."""
