// Positions, boxes, overlaps: spm_rt/frame/geometry.py and the sampling of docs/notes/model.md, operation by operation.
#pragma once
#include "portable.h"

namespace spm {

struct Box {
    float x1, y1, x2, y2;
};

// `count` positions from low to high along an axis whose last index is `last`.
struct Steps {
    float start, step;
};

SPM_FUNCTION Steps sample_steps(float low, float high, float last, int count) {
    const float a = low / last, b = high / last;
    return {a * last, (b - a) * last / (float)(count - 1)};
}

SPM_FUNCTION float sample_at(Steps steps, int at) { return steps.start + (float)at * steps.step; }

SPM_FUNCTION float sample_position(float low, float high, float last, int count, int at) {
    return sample_at(sample_steps(low, high, last, count), at);
}

SPM_FUNCTION bool is_inside(float position, float last) { return position >= 0.0f && position <= last; }

// The two neighbours of a position that is inside, and its share of the second.
struct Neighbours {
    int low, high;
    float share;
};

SPM_FUNCTION Neighbours neighbours(float position) {
    const float below = floorf(position);
    return {(int)below, (int)ceilf(position), position - below};
}

SPM_FUNCTION float between(float a, float b, float share) { return a + (b - a) * share; }

SPM_FUNCTION Box load_box(const float* from) { return {from[0], from[1], from[2], from[3]}; }

SPM_FUNCTION void store_box(float* to, Box box) {
    to[0] = box.x1;
    to[1] = box.y1;
    to[2] = box.x2;
    to[3] = box.y2;
}

// Overlap (IoU). `one` counts pixels inclusively where it is 1; two empty boxes without it give NaN.
SPM_FUNCTION float overlap(Box a, Box b, float one) {
    const float width = minimum(a.x2, b.x2) - maximum(a.x1, b.x1) + one;
    const float height = minimum(a.y2, b.y2) - maximum(a.y1, b.y1) + one;
    const float inter = maximum(width, 0.0f) * maximum(height, 0.0f);
    const float area_a = (a.x2 - a.x1 + one) * (a.y2 - a.y1 + one), area_b = (b.x2 - b.x1 + one) * (b.y2 - b.y1 + one);
    const float both = area_a + area_b - inter;
    return inter == 0.0f && both > 0.0f ? 0.0f : inter / both;  // most of them: the same without a division
}

// One tracker on the device; spm_rt/gpu/kernels/__init__.py has the same layout as STATE.
struct State {
    double box[4];            // the last box, x1, y1, x2, y2 in frame pixels
    double region[4];         // what the crop shows, in frame pixels
    double scale;             // crop pixels per frame pixel
    double extent[4];         // what makes the wanted box of a detected one: fusion.Extent; zeros: not known yet
    unsigned long long sum[3];  // of all the frame's pixels, blue, green, red; of several targets only the first's
};
static_assert(sizeof(State) == 128, "spm_rt/gpu/kernels/__init__.py: STATE");

// The last box in float32, as overlaps are computed.
SPM_FUNCTION Box last_box(const State* state) {
    const double* box = state->box;
    return {(float)box[0], (float)box[1], (float)box[2], (float)box[3]};
}

// Kernels are launched for a fixed number of targets. A place that nobody has is one whose scale is zero.
SPM_FUNCTION bool is_empty(const State* state) { return !(state->scale > 0.0); }

// How it is tracked; SETTINGS there.
struct Settings {
    double context_amount, size_rate, update_threshold, min_side;
    float near_iou, score_floor, nms_threshold, fine_score_weight, fine_box_weight, window_influence;
    int template_size, crop_size, mode, candidates, near_candidates, anchors;
};
static_assert(sizeof(Settings) == 80, "spm_rt/gpu/kernels/__init__.py: SETTINGS");

enum Mode { SERIES_PARALLEL, SERIES, COARSE };

constexpr int RIVALS = 8;  // fusion.RIVALS

// What one frame gave; RESULT there.
struct Result {
    double box[4];
    float score, coarse_score, fine_score;
    int chosen, rival_count;
    float rival_score;
    Box rivals[RIVALS];
};
static_assert(sizeof(Result) == 184, "spm_rt/gpu/kernels/__init__.py: RESULT");

// The square around the last box (geometry.search_region), in float64.
SPM_FUNCTION void search_region(State* state, const Settings* settings) {
    const double* box = state->box;
    const double width = box[2] - box[0], height = box[3] - box[1];
    const double context = settings->context_amount * (width + height);
    const double side = sqrt((width + context) * (height + context));
    const double scale = (double)settings->template_size / side;
    const double half = (side + (double)(settings->crop_size - settings->template_size) / scale) / 2;
    const double cx = (box[0] + box[2]) / 2, cy = (box[1] + box[3]) / 2;
    state->region[0] = cx - half;
    state->region[1] = cy - half;
    state->region[2] = cx + half;
    state->region[3] = cy + half;
    state->scale = scale;
}

// From crop to frame pixels (geometry.to_frame): the division in float32, the sum in float64.
SPM_FUNCTION Box to_frame(Box box, const State* state) {
    const float scale = (float)state->scale;
    const double x = state->region[0], y = state->region[1];
    return {(float)((double)(box.x1 / scale) + x), (float)((double)(box.y1 / scale) + y),
            (float)((double)(box.x2 / scale) + x), (float)((double)(box.y2 / scale) + y)};
}

}  // namespace spm
