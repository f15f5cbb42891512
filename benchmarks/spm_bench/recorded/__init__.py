"""Recorded numbers of the authors' release, and scores against them."""
