import numpy as np
from numpy.typing import NDArray

def choose(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    last: NDArray[np.float32],
    place: tuple[float, float, float],
    near_iou: float,
    score_floor: float,
    nms_threshold: float,
    reserve: int,
    wanted: int,
    /,
) -> tuple[bytes, bytes]: ...
