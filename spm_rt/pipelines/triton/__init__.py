"""The tracker behind NVIDIA's Triton Inference Server: a model that keeps a tracker for each sequence of frames.

``spm-export BUNDLE --triton FOLDER`` writes the repository (``repository``); Triton imports ``model``, which hands
frames to ``sequences`` and results back as ``tensors``.
"""
