"""Frames from videos, folders and cameras; clips with ground truth; pictures of results."""
