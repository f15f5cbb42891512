"""Data sets, and the samples drawn from them."""
