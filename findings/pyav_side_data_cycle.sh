#!/usr/bin/env bash
# A frame of PyAV that was asked for its side data is not freed with its last reference, but when garbage is collected.
#
# Packages:    av 18.1.0, numpy 2.4.6
# Expectation: reading an attribute changes nothing: a decoded frame that nobody holds any more is freed at once, and the
#              decoder's pool of buffers gives its memory to the next frame.
# Behaviour:   frame.side_data makes a container that holds the frame, and the frame keeps the container. Such frames wait for
#              Python's collector of cycles, which counts objects, not bytes: of a clip of 60 frames, all are still there at its
#              end (370 MB in 1080p), the decoder allocates and clears new buffers, and reading takes more time. It does not
#              matter whether a frame has any side data. av.sidedata.sidedata.SideDataContainer(frame) gives the same container
#              without being kept.
# Seen:        61 frames left of 60 after frame.side_data (one is the decoder's own), 1 after SideDataContainer(frame), 1 without.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" av==18.1.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import gc
import io
import sys
from collections.abc import Callable

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer

film = io.BytesIO()
with av.open(film, "w", format="matroska") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    for number in range(60):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((120, 160, 3), 4 * number, np.uint8))))
    container.mux(stream.encode())


def left(ask: Callable[[av.VideoFrame], object]) -> int:
    """Frames that are left when all have been read."""
    film.seek(0)
    with av.open(film) as container:
        for frame in container.decode(video=0):
            ask(frame)
        del frame
        count = sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
    gc.collect()
    return count


gc.collect()
gc.freeze()
seen = [left(lambda frame: frame.side_data), left(SideDataContainer), left(lambda frame: frame.pts)]
print(f"av {av.__version__}: frames left of 60 after side_data, SideDataContainer(frame), neither: {seen}")
if seen[0] < 50 or max(seen[1:]) > 2:
    sys.exit("changed: side_data was expected to keep the frames, and nothing else")
END
