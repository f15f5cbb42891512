// Scores and boxes of both stages from what their last layers give (docs/notes/model.md, "Box decoding").
#pragma once
#include "geometry.h"

namespace spm {

constexpr int DECODE_THREADS = 128;
constexpr float MAX_LOG_SCALE = 2.0755276679992676f;  // log(255 / 32)

SPM_FUNCTION float sigmoid(float value) { return 1.0f / (1.0f + expf(-value)); }

// A side's length: exp of its delta, which is no more than MAX_LOG_SCALE, and that where it is no finite number.
SPM_FUNCTION float scaled(float delta, float size) {
    const bool finite = (to_bits(delta) & 0x7f800000u) != 0x7f800000u;
    return expf(finite ? minimum(delta, MAX_LOG_SCALE) : MAX_LOG_SCALE) * size;
}

SPM_FUNCTION Box decoded(const float* delta, const float* center, const float* size) {
    const float x = delta[0] * size[0] + center[0], y = delta[1] * size[1] + center[1];
    const float half_width = 0.5f * scaled(delta[2], size[0]), half_height = 0.5f * scaled(delta[3], size[1]);
    return {x - half_width, y - half_height, x + half_width, y + half_height};
}

// The coarse head's answer: per target `cells` cells of 6 A channels (A background, A foreground, 4 A deltas), where a
// channel, a cell and a target are so many values apart. bias [6 A], `bias_step` apart from target to target (0: one for
// all). Anchors [cells * A, 2]. scores [T, N], boxes [T, N, 4].
struct Head {
    int cells, anchors, channel_step, cell_step, target_step, bias_step;
};

template <typename Data>
SPM_BLOCK void decode_block(int block, int target, const Data* values, const float* bias, const Head& head,
                            const float* centers, const float* sizes, float* scores, float* boxes) {
    const int count = head.cells * head.anchors;
    const float* const added = bias + target * head.bias_step;
    SPM_EACH_THREAD(thread, DECODE_THREADS) {
        const int n = block * DECODE_THREADS + thread;
        if (n < count) {
            const int anchor = n % head.anchors, first = 2 * head.anchors + 4 * anchor;
            const Data* const cell = values + (long long)target * head.target_step + n / head.anchors * head.cell_step;
            const float foreground = load(cell + (head.anchors + anchor) * head.channel_step) + added[head.anchors + anchor];
            const float background = load(cell + anchor * head.channel_step) + added[anchor];
            float delta[4];
            for (int i = 0; i < 4; ++i) delta[i] = load(cell + (first + i) * head.channel_step) + added[first + i];
            const long long to = (long long)target * count + n;
            scores[to] = sigmoid(foreground - background);
            store_box(boxes + 4 * to, decoded(delta, centers + 2 * n, sizes + 2 * n));
        }
    }
}

// The fine stage's: values [n, 6] (background, foreground, four deltas), bias [6], the deltas' weights, proposals [n, 4]
// that the boxes are relative to. scores [n], boxes [n, 4].
template <typename Data>
SPM_BLOCK void decode_fine_block(int block, const Data* values, const float* bias, const float* weights,
                                 const float* proposals, int count, float* scores, float* boxes) {
    SPM_EACH_THREAD(thread, DECODE_THREADS) {
        const int n = block * DECODE_THREADS + thread;
        if (n < count) {
            float given[6], delta[4];
            for (int i = 0; i < 6; ++i) given[i] = load(values + 6 * n + i) + bias[i];
            for (int i = 0; i < 4; ++i) delta[i] = given[2 + i] / weights[i];
            const Box box = load_box(proposals + 4 * n);
            const float size[2] = {box.x2 - box.x1 + 1.0f, box.y2 - box.y1 + 1.0f};
            const float center[2] = {box.x1 + 0.5f * size[0], box.y1 + 0.5f * size[1]};
            scores[n] = sigmoid(given[1] - given[0]);
            store_box(boxes + 4 * n, decoded(delta, center, size));
        }
    }
}

}  // namespace spm
