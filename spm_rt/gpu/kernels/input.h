// How the network's first layer wants its input: mean taken off, type, order, and planes of zeros behind the three colours.
#pragma once
#include "portable.h"

namespace spm {

struct InputForm {
    const float* mean;  // [3], or null: nothing is taken off
    int planes;         // 3 or more
    int channels_last;
};

// A pixel's three colours into one target's [planes, cells], or [cells, planes].
template <typename Data>
SPM_FUNCTION void store_pixel(const float* pixel, const InputForm& form, int at, int cells, Data* to) {
    for (int plane = 0; plane < form.planes; ++plane) {
        const float value = plane < 3 ? pixel[plane] - (form.mean ? form.mean[plane] : 0.0f) : 0.0f;
        store(to + (form.channels_last ? at * form.planes + plane : plane * cells + at), value);
    }
}

}  // namespace spm
