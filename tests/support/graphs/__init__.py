"""Graphs in tests: small ones made of nodes, sessions that run them, the reference for regions of feature maps."""
