"""Data sets, and the samples drawn from them."""

from .folders import Coco, Got10k, ImagenetVid
from .packed import PackedStills, PackedVideo

READERS = {
    "got10k": Got10k,
    "coco": Coco,
    "vid": ImagenetVid,
    "packed-stills": PackedStills,
    "packed-video": PackedVideo,
}
"""Kind of data set on the command line -> its reader, which is made of one path, or two for ``coco``."""
