// The network's input from a frame on the device: crop.crop_exact, sample by sample.
#pragma once
#include "geometry.h"
#include "input.h"

namespace spm {

constexpr int CROP_THREADS = 256, SUM_THREADS = 256;

// A uint8 frame: 1 (grey), 3 (BGR) or 4 (BGRA, alpha is passed over) channels, in bytes.
struct Frame {
    const unsigned char* data;
    int height, width, channels;
    long long row_step, pixel_step;
};

SPM_FUNCTION float frame_value(const Frame& frame, int row, int column, int channel) {
    const long long at = row * frame.row_step + column * frame.pixel_step + (frame.channels == 1 ? 0 : channel);
    return (float)frame.data[at];
}

SPM_FUNCTION float crop_position(const State* state, int axis, int size, int count, int at) {
    return sample_position((float)state->region[axis], (float)state->region[axis + 2], (float)(size - 1), count, at);
}

// Whether no sample lies outside: positions ascend, so the first and the last of each axis tell.
SPM_FUNCTION bool crop_is_inside(const State* state, int height, int width, int count) {
    const float last_x = (float)(width - 1), last_y = (float)(height - 1);
    return is_inside(crop_position(state, 0, width, count, 0), last_x) &&
           is_inside(crop_position(state, 0, width, count, count - 1), last_x) &&
           is_inside(crop_position(state, 1, height, count, 0), last_y) &&
           is_inside(crop_position(state, 1, height, count, count - 1), last_y);
}

// One pixel's three values of the crop, or the frame's mean colour, whose sum over all pixels is `sum`.
SPM_FUNCTION void crop_pixel(const Frame& frame, const State* state, const unsigned long long* sum, int count, int row,
                             int column, float* out) {
    const float last_x = (float)(frame.width - 1), last_y = (float)(frame.height - 1);
    const float x = crop_position(state, 0, frame.width, count, column);
    const float y = crop_position(state, 1, frame.height, count, row);
    if (!(is_inside(x, last_x) && is_inside(y, last_y))) {
        const double share = 1.0 / ((double)frame.height * (double)frame.width);
        for (int channel = 0; channel < 3; ++channel) out[channel] = (float)((double)sum[channel] * share);
        return;
    }
    const Neighbours across = neighbours(x), down = neighbours(y);
    for (int channel = 0; channel < 3; ++channel) {
        const float upper = between(frame_value(frame, down.low, across.low, channel),
                                    frame_value(frame, down.low, across.high, channel), across.share);
        const float lower = between(frame_value(frame, down.high, across.low, channel),
                                    frame_value(frame, down.high, across.high, channel), across.share);
        out[channel] = between(upper, lower, down.share);
    }
}

// states [T], out [T, planes, count, count], or in the order that `form` says; a block makes CROP_THREADS of one target's
// pixels. An empty slot is left as it is.
template <typename Data>
SPM_BLOCK void crop_block(int block, int target, const Frame& frame, const State* states, int count,
                          const InputForm& form, Data* out) {
    const State* const state = states + target;
    if (is_empty(state)) return;
    Data* const to = out + (long long)target * form.planes * count * count;
    SPM_EACH_THREAD(thread, CROP_THREADS) {
        const int at = block * CROP_THREADS + thread;
        if (at < count * count) {
            float pixel[3];
            crop_pixel(frame, state, states->sum, count, at / count, at % count, pixel);
            store_pixel(pixel, form, at, count * count, to);
        }
    }
}

SPM_FUNCTION void add_to(unsigned long long* sum, unsigned long long value) {
#ifdef __CUDACC__
    atomicAdd(sum, value);  // of whole numbers: the order does not matter
#else
    *sum += value;
#endif
}

// Whether a target's crop needs the frame's mean colour.
SPM_FUNCTION bool needs_mean(const State* state, const Frame& frame, int count) {
    return !is_empty(state) && !crop_is_inside(state, frame.height, frame.width, count);
}

// Adds the block's share of the frame's pixels to states->sum, which begin() has set to zero. A frame is summed once: by
// the blocks of the first target that needs its mean. The others do nothing.
SPM_BLOCK void sum_block(int block, int blocks, int target, const Frame& frame, int count, State* states) {
    if (!needs_mean(states + target, frame, count)) return;
    for (int other = 0; other < target; ++other) {
        if (needs_mean(states + other, frame, count)) return;
    }
    SPM_SHARED unsigned long long sums[3][SUM_THREADS];
    const long long pixels = (long long)frame.height * frame.width;
    SPM_EACH_THREAD(thread, SUM_THREADS) {
        unsigned long long own[3] = {0, 0, 0};
        for (long long at = (long long)block * SUM_THREADS + thread; at < pixels; at += (long long)blocks * SUM_THREADS) {
            const int row = (int)(at / frame.width), column = (int)(at % frame.width);
            for (int channel = 0; channel < 3; ++channel) {
                own[channel] += (unsigned long long)frame_value(frame, row, column, channel);
            }
        }
        for (int channel = 0; channel < 3; ++channel) sums[channel][thread] = own[channel];
    }
    SPM_SYNC();
    for (int half = SUM_THREADS / 2; half > 0; half /= 2) {
        SPM_EACH_THREAD(thread, SUM_THREADS) {
            if (thread < half) {
                for (int channel = 0; channel < 3; ++channel) sums[channel][thread] += sums[channel][thread + half];
            }
        }
        SPM_SYNC();
    }
    SPM_EACH_THREAD(thread, SUM_THREADS) {
        if (thread < 3) add_to(&states->sum[thread], sums[thread][0]);
    }
}

// The region around the last box, and sums at zero: before sum_block and crop_block. A box without width is nobody's; what
// is followed is at least min_side wide.
SPM_FUNCTION void begin(State* state, const Settings* settings) {
    if (state->box[2] > state->box[0]) {
        search_region(state, settings);
    } else {
        state->scale = 0.0;
    }
    for (int channel = 0; channel < 3; ++channel) state->sum[channel] = 0;
}

}  // namespace spm
