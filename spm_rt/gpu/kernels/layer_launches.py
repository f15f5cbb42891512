"""How the kernels between a network's products are launched (``layers.cu`` beside this)."""

from __future__ import annotations

from . import DATA_TYPES, Launch

NORM_THREADS = 256
NORM_PIXELS = 8
NORM_MAX_CHANNELS = 256
ACTIVATE_THREADS = 256
ACTIVATE_ITEMS = 4
DECODE_THREADS = 128
RELATE_THREADS = 256
PREPARE_THREADS = 256


def pool_norm_launch(targets: int, height: int, width: int, data: str) -> Launch:
    """``spm_pool_norm_*``: bias, rectifier, pooling and normalisation of ``targets`` maps of ``height`` x ``width``."""
    pixels = (height + 1) // 2 * ((width + 1) // 2)
    return _launch("pool_norm", data, -(-pixels // NORM_PIXELS), targets, NORM_THREADS)


def activate_launch(count: int, data: str) -> Launch:
    """``spm_activate_*``: bias, and what may be added, of ``count`` values, clipped."""
    return _launch("activate", data, -(-count // (ACTIVATE_ITEMS * ACTIVATE_THREADS)), 1, ACTIVATE_THREADS)


def decode_launch(targets: int, anchors: int, data: str) -> Launch:
    """``spm_decode_*``: the coarse stage's ``anchors`` scores and boxes of each target."""
    return _launch("decode", data, -(-anchors // DECODE_THREADS), targets, DECODE_THREADS)


def decode_fine_launch(proposals: int, data: str) -> Launch:
    """``spm_decode_fine_*``: the fine stage's scores and boxes of ``proposals`` in all."""
    return _launch("decode_fine", data, -(-proposals // DECODE_THREADS), 1, DECODE_THREADS)


def relate_launch(proposals: int, size: int, data: str) -> Launch:
    """``spm_relate_*``: ``proposals`` in all, with ``size`` values each."""
    return _launch("relate", data, -(-size // RELATE_THREADS), proposals, RELATE_THREADS)


def prepare_launch(targets: int, cells: int, data: str) -> Launch:
    """``spm_prepare_*``: crops of ``cells`` pixels as the first layer reads them."""
    return _launch("prepare", data, -(-cells // PREPARE_THREADS), targets, PREPARE_THREADS)


def _launch(kernel: str, data: str, blocks: int, rows: int, threads: int) -> Launch:
    return Launch(f"spm_{kernel}_{DATA_TYPES[data]}", (blocks, rows, 1), threads)
