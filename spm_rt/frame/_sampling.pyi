import numpy as np
from numpy.typing import NDArray

def sample_region(
    frame: NDArray[np.uint8], x1: float, y1: float, x2: float, y2: float, out: NDArray[np.float32], /
) -> tuple[int, int, int, int] | None: ...
def sum_rows(frame: NDArray[np.uint8], first: int, last: int, /) -> tuple[int, int, int, int]: ...
