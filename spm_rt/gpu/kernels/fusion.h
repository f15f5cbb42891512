// Both stages' scores and boxes fused, and the step to the next box: spm_rt/frame/fusion.py, one block per target.
#pragma once
#include "geometry.h"
#include "proposals.h"

namespace spm {

constexpr int FUSE_THREADS = MAX_CANDIDATES;
constexpr float APART = 0.3f;  // fusion.APART

struct Fused {
    Box box[MAX_CANDIDATES];
    float score[MAX_CANDIDATES], ranking[MAX_CANDIDATES];
};

// The cosine window at the centre of a box in crop pixels, along one axis.
SPM_FUNCTION float wave(float low, float high, int crop_size) {
    const float center = clip((low + high) / 2.0f / (float)(crop_size - 1), 0.0f, 1.0f);
    return 0.5f - 0.5f * cosine(6.283185307179586f * center);
}

SPM_FUNCTION float mix(float share, float a, float b) { return share * a + (1.0f - share) * b; }

SPM_FUNCTION void fuse_one(int row, float coarse_score, float fine_score, Box coarse, Box fine, Box in_crop,
                           const Settings* settings, Fused* out) {
    Box box = coarse;
    float score = coarse_score;
    if (settings->mode == SERIES) {
        box = fine;
        score = fine_score;
    } else if (settings->mode == SERIES_PARALLEL) {
        const float weight = settings->fine_score_weight;
        score = (1.0f - weight) * coarse_score + weight * fine_score;
        const float total = coarse_score + settings->fine_box_weight * fine_score;
        const float share = coarse_score / clip(total, 1e-5f, 99999.0f);
        box = {mix(share, coarse.x1, fine.x1), mix(share, coarse.y1, fine.y1), mix(share, coarse.x2, fine.x2),
               mix(share, coarse.y2, fine.y2)};
    }
    const float window = wave(in_crop.x1, in_crop.x2, settings->crop_size) *
                         wave(in_crop.y1, in_crop.y2, settings->crop_size);
    const float influence = settings->window_influence;
    out->box[row] = box;
    out->score[row] = score;
    out->ranking[row] = (1.0f - influence) * score + influence * window;
}

// np.argmax: the first of equals, and the first NaN before any number.
SPM_FUNCTION int arg_max(const float* values, int count) {
    int best = 0;
    for (int i = 1; i < count && !is_nan(values[best]); ++i) {
        if (values[i] > values[best] || is_nan(values[i])) best = i;
    }
    return best;
}

// fusion.find_rivals; of no proposal at all there are none.
SPM_FUNCTION void find_rivals(const Fused* fused, int count, int chosen, double least, Result* result) {
    result->rival_count = 0;
    result->rival_score = 0.0f;
    for (int i = 0; i < RIVALS; ++i) result->rivals[i] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; chosen >= 0 && i < count; ++i) {
        if (!(overlap(fused->box[i], fused->box[chosen], 0.0f) < APART)) continue;
        const float score = fused->score[i];
        if (score > result->rival_score) result->rival_score = score;
        if ((double)score >= least && result->rival_count < RIVALS) result->rivals[result->rival_count++] = fused->box[i];
    }
}

SPM_FUNCTION double smaller(double a, double b) { return b < a ? b : a; }
SPM_FUNCTION double larger(double a, double b) { return b > a ? b : a; }

// fusion.next_box, in float64. The clamp is the release's, and not symmetric.
SPM_FUNCTION void next_box(Box detected, double score, int height, int width, const Settings* settings,
                           const double* extent, double* box) {
    const double rate = settings->size_rate * score;
    const double x1 = detected.x1, y1 = detected.y1, x2 = detected.x2, y2 = detected.y2;
    const double w = larger(settings->min_side, (x2 - x1) * extent[0] * rate + (box[2] - box[0]) * (1 - rate));
    const double h = larger(settings->min_side, (y2 - y1) * extent[1] * rate + (box[3] - box[1]) * (1 - rate));
    const double cx = larger(0.0, smaller((x1 + x2) / 2 + (x2 - x1) * extent[2], width - w / 2));
    const double cy = larger(0.0, smaller((y1 + y2) / 2 + (y2 - y1) * extent[3], height - h / 2));
    box[0] = cx - w / 2;
    box[1] = cy - h / 2;
    box[2] = cx + w / 2;
    box[3] = cy + h / 2;
}

// The first `count` of K proposals: coarse scores [K], boxes in crop and in frame pixels [K, 4], the fine stage's scores
// [K] and boxes in crop pixels [K, 4] (neither is read in coarse mode). Moves state->box and fills `result`; where there
// is no proposal the box stays, and the scores are NaN. Of a target without extent the box becomes the detected one.
SPM_BLOCK void fuse_block(const int* count, const float* coarse_scores, const float* crop_boxes, const float* frame_boxes,
                          const float* fine_scores, const float* fine_boxes, int height, int width,
                          const Settings* settings, State* state, Result* result) {
    SPM_SHARED Fused fused;
    const bool coarse_only = settings->mode == COARSE;
    SPM_EACH_THREAD(thread, FUSE_THREADS) {
        if (thread < *count) {
            const Box coarse = load_box(frame_boxes + 4 * thread);
            const float fine_score = coarse_only ? from_bits(0x7fc00000u) : fine_scores[thread];
            const Box fine = coarse_only ? coarse : to_frame(load_box(fine_boxes + 4 * thread), state);
            fuse_one(thread, coarse_scores[thread], fine_score, coarse, fine, load_box(crop_boxes + 4 * thread), settings,
                     &fused);
        }
    }
    SPM_SYNC();
    SPM_EACH_THREAD(thread, FUSE_THREADS) {
        if (thread == 0) {
            const float nothing = from_bits(0x7fc00000u);  // NaN
            const int chosen = *count > 0 ? arg_max(fused.ranking, *count) : -1;
            const float score = chosen < 0 ? nothing : fused.score[chosen];
            if (chosen >= 0 && state->extent[0] == 0.0) {  // to make an extent, the detected box is asked for
                const Box detected = fused.box[chosen];
                const double corners[4] = {detected.x1, detected.y1, detected.x2, detected.y2};
                for (int side = 0; side < 4; ++side) state->box[side] = corners[side];
            } else if ((double)score >= settings->update_threshold) {
                next_box(fused.box[chosen], (double)score, height, width, settings, state->extent, state->box);
            }
            for (int side = 0; side < 4; ++side) result->box[side] = state->box[side];
            result->score = score;
            result->coarse_score = chosen < 0 ? nothing : coarse_scores[chosen];
            result->fine_score = chosen < 0 || coarse_only ? nothing : fine_scores[chosen];
            result->chosen = chosen;
            find_rivals(&fused, *count, chosen, settings->update_threshold, result);
        }
    }
}

}  // namespace spm
