"""Engines: what is compiled from a bundle for the machine at hand."""
