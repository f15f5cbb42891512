import numpy as np
from numpy.typing import NDArray

def sample_into(
    frame: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32], out: NDArray[np.float32], /
) -> None: ...
