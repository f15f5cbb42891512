"""Frames from videos, folders and cameras; clips with ground truth; pictures of results."""

READERS = ("auto", "pyav", "opencv")
"""What reads videos: names that :func:`spm_rt.media.sources.open_source` knows."""
