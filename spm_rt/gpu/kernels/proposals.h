// Which of the coarse stage's boxes the fine stage looks at: proposals.select_proposals, one block per target.
//
// Sorting and walking down the order is the same as taking the best that is left again and again (equal scores: the
// lower index), so there are K rounds of "find the best, drop what overlaps it" and no sort.
#pragma once
#include "geometry.h"

namespace spm {

constexpr int SELECT_THREADS = 256, MAX_ANCHORS = 1805, MAX_CANDIDATES = 64;

// What the best is chosen by: first, then second, then the lower index; NaN is worse than any number.
struct Rank {
    float first, second;
    int index;
};

SPM_FUNCTION bool is_greater(float a, float b) { return a > b || (is_nan(b) && !is_nan(a)); }

SPM_FUNCTION bool is_better(const Rank& a, const Rank& b) {
    if (b.index < 0) return a.index >= 0;
    if (a.index < 0) return false;
    if (is_greater(a.first, b.first)) return true;
    if (is_greater(b.first, a.first)) return false;
    if (is_greater(a.second, b.second)) return true;
    if (is_greater(b.second, a.second)) return false;
    return a.index < b.index;
}

// What a block of select_block shares: 43 kB, under the 48 kB that every device has.
struct Selection {
    Box box[MAX_ANCHORS];       // in frame pixels
    float score[MAX_ANCHORS];   // below zero: out of the running
    Rank near[SELECT_THREADS];  // each thread's best, and after a reduction everybody's in [0]
    Rank nearest[SELECT_THREADS];
    int count[SELECT_THREADS];
    float highest[SELECT_THREADS];
    int kept[MAX_CANDIDATES];
    int kept_count;
};

// np.fmax(overlap, -1): of the nearest box's search.
SPM_FUNCTION float ordinary(float overlap) { return overlap > -1.0f ? overlap : -1.0f; }

// Boxes to the frame, and each thread's best near box, nearest box and number of near boxes.
SPM_FUNCTION void look_at_boxes(int thread, const float* scores, const float* boxes, const State* state,
                                const Settings* settings, Selection* s) {
    const Box current = last_box(state);
    s->near[thread] = {0.0f, 0.0f, -1};
    s->nearest[thread] = {0.0f, 0.0f, -1};
    s->count[thread] = 0;
    for (int i = thread; i < settings->anchors; i += SELECT_THREADS) {
        s->box[i] = to_frame(load_box(boxes + 4 * i), state);
        s->score[i] = scores[i];
        const float found = overlap(s->box[i], current, 1.0f);
        const Rank near = {scores[i], found, i}, nearest = {ordinary(found), 0.0f, i};
        if (is_better(nearest, s->nearest[thread])) s->nearest[thread] = nearest;
        if (found > settings->near_iou) {
            ++s->count[thread];
            if (is_better(near, s->near[thread])) s->near[thread] = near;
        }
    }
}

// Halves a row of partial results until [0] has them all.
SPM_BLOCK void reduce_near(Selection* s) {
    for (int half = SELECT_THREADS / 2; half > 0; half /= 2) {
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            if (thread < half) {
                if (is_better(s->near[thread + half], s->near[thread])) s->near[thread] = s->near[thread + half];
                if (is_better(s->nearest[thread + half], s->nearest[thread])) {
                    s->nearest[thread] = s->nearest[thread + half];
                }
                s->count[thread] += s->count[thread + half];
            }
        }
        SPM_SYNC();
    }
}

SPM_BLOCK void reduce_best(Selection* s) {
    for (int half = SELECT_THREADS / 2; half > 0; half /= 2) {
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            if (thread < half && is_better(s->near[thread + half], s->near[thread])) {
                s->near[thread] = s->near[thread + half];
            }
        }
        SPM_SYNC();
    }
}

// Drops what lies under the floor: a share of the highest score. NaN anywhere drops all, as in the reference.
SPM_BLOCK void apply_floor(const Settings* settings, Selection* s) {
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        float highest = s->score[thread < settings->anchors ? thread : 0];
        for (int i = thread; i < settings->anchors; i += SELECT_THREADS) highest = maximum(highest, s->score[i]);
        s->highest[thread] = highest;
    }
    SPM_SYNC();
    for (int half = SELECT_THREADS / 2; half > 0; half /= 2) {
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            if (thread < half) s->highest[thread] = maximum(s->highest[thread], s->highest[thread + half]);
        }
        SPM_SYNC();
    }
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        const float floor = settings->score_floor * s->highest[0];
        for (int i = thread; i < settings->anchors; i += SELECT_THREADS) {
            if (!(s->score[i] >= floor)) s->score[i] = -1.0f;
        }
    }
    SPM_SYNC();
}

// Greedy suppression: up to `wanted` rounds.
SPM_BLOCK void suppress(int wanted, const Settings* settings, Selection* s) {
    for (int round = 0; round < wanted; ++round) {
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            Rank best = {0.0f, 0.0f, -1};
            for (int i = thread; i < settings->anchors; i += SELECT_THREADS) {
                const Rank own = {s->score[i], 0.0f, i};
                if (own.first >= 0.0f && is_better(own, best)) best = own;
            }
            s->near[thread] = best;
        }
        SPM_SYNC();
        reduce_best(s);
        const int winner = s->near[0].index;
        if (winner < 0) return;
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            const Box kept = s->box[winner];
            for (int i = thread; i < settings->anchors; i += SELECT_THREADS) {
                if (i == winner || overlap(s->box[i], kept, 0.0f) >= settings->nms_threshold) s->score[i] = -1.0f;
            }
            if (thread == 0) s->kept[s->kept_count++] = winner;
        }
        SPM_SYNC();
    }
}

// For an empty slot: no proposals, and boxes of zeros, since the relation graph runs on all K rows.
SPM_BLOCK void propose_nothing(int rows, int* indices, int* count, float* crop_boxes, float* frame_boxes,
                               float* own_scores) {
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        if (thread == 0) *count = 0;
        for (int row = thread; row < rows; row += SELECT_THREADS) {
            indices[row] = 0;
            own_scores[row] = 0.0f;
            store_box(crop_boxes + 4 * row, {0.0f, 0.0f, 0.0f, 0.0f});
            store_box(frame_boxes + 4 * row, {0.0f, 0.0f, 0.0f, 0.0f});
        }
    }
}

// scores [N], boxes [N, 4] in crop pixels. Writes up to K = settings->candidates proposals and how many there are:
// indices [K], their boxes in crop and in frame pixels [K, 4], scores [K]. Rows beyond the count repeat the last one, so
// that the relation graph can run on K whole rows.
SPM_BLOCK void select_block(const float* scores, const float* boxes, const State* state, const Settings* settings,
                            int* indices, int* count, float* crop_boxes, float* frame_boxes, float* own_scores) {
    if (is_empty(state)) {
        propose_nothing(settings->candidates, indices, count, crop_boxes, frame_boxes, own_scores);
        return;
    }
    SPM_SHARED Selection s;
    const bool reserve = settings->near_candidates > 0 && settings->candidates > 1;
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        look_at_boxes(thread, scores, boxes, state, settings, &s);
        if (thread == 0) s.kept_count = 0;
    }
    SPM_SYNC();
    reduce_near(&s);
    const int reserved = s.count[0] >= 2 ? s.near[0].index : s.nearest[0].index;
    SPM_SYNC();
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        if (thread == 0 && reserve) s.score[reserved] = -1.0f;
    }
    SPM_SYNC();
    apply_floor(settings, &s);
    suppress(settings->candidates - (reserve ? 1 : 0), settings, &s);
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        const int found = s.kept_count + (reserve ? 1 : 0);
        if (thread == 0) *count = found;
        for (int row = thread; row < settings->candidates; row += SELECT_THREADS) {
            const int last = reserve ? reserved : (found > 0 ? s.kept[found - 1] : 0);
            const int index = row < s.kept_count ? s.kept[row] : last;
            indices[row] = index;
            own_scores[row] = scores[index];
            store_box(crop_boxes + 4 * row, load_box(boxes + 4 * index));
            store_box(frame_boxes + 4 * row, s.box[index]);
        }
    }
}

}  // namespace spm
