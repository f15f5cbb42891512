"""One frame's arithmetic: geometry, crop, choice of proposals, fusion. Pure functions of arrays."""
