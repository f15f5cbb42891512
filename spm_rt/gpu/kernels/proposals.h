// Which of the coarse stage's boxes the fine stage looks at: proposals.select_proposals, one block per target.
//
// Sorting and walking down the order is the same as taking the best that is left again and again (equal scores: the
// lower index), so there are K rounds of "drop what overlaps the last one, find the best" and no sort. They walk only over
// what the score floor leaves, mostly a box per thread or none.
#pragma once
#include "geometry.h"

namespace spm {

constexpr int SELECT_THREADS = 512, MAX_ANCHORS = 1805, MAX_CANDIDATES = 64;

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

// Each thread's part of the first pass, and after a reduction everybody's in [0].
struct FirstPass {
    Rank near[SELECT_THREADS], nearest[SELECT_THREADS];
    int count[SELECT_THREADS];
    float highest[SELECT_THREADS];
};

// Those at or over the floor, in any order, and each thread's best of them as a key.
struct Survivors {
    unsigned long long best[SELECT_THREADS];
    Box box[MAX_ANCHORS];  // in frame pixels
    unsigned short index[MAX_ANCHORS];
};

// What a block of select_block shares: 44 kB, under the 48 kB that every device has.
struct Selection {
    union {
        FirstPass first;
        Survivors rest;  // once the first pass has been reduced
    };
    float score[MAX_ANCHORS];  // below zero: out of the running
    float floor;
    int survivors, reserved, kept_count;
    unsigned long long kept[MAX_CANDIDATES];  // keys
};
static_assert(sizeof(Selection) <= 48 * 1024 && MAX_ANCHORS < 65536, "shared memory, and 16 bits of a key");

// A survivor's key: the greatest has the highest score (not negative, no NaN), of equals the lowest index. The lowest bits,
// its place among the survivors, never decide.
SPM_FUNCTION unsigned long long key_of(float score, int index, int place) {
    const unsigned int bits = score > 0.0f ? to_bits(score) : 0u;  // minus zero is zero
    return (unsigned long long)bits << 32 | (unsigned long long)(65535 - index) << 16 | (unsigned long long)place;
}

SPM_FUNCTION int key_index(unsigned long long key) { return 65535 - (int)(key >> 16 & 65535u); }
SPM_FUNCTION int key_place(unsigned long long key) { return (int)(key & 65535u); }

// np.fmax(overlap, -1): of the nearest box's search.
SPM_FUNCTION float ordinary(float overlap) { return overlap > -1.0f ? overlap : -1.0f; }

// Scores, and each thread's best near box, nearest box and number of near boxes.
SPM_FUNCTION void look_at_boxes(int thread, const float* scores, const float* boxes, const State* state,
                                const Settings* settings, Selection* s) {
    const Box current = last_box(state);
    Rank near = {0.0f, 0.0f, -1}, nearest = {0.0f, 0.0f, -1};
    int count = 0;
    for (int i = thread; i < settings->anchors; i += SELECT_THREADS) {
        s->score[i] = scores[i];
        const float found = overlap(to_frame(load_box(boxes + 4 * i), state), current, 1.0f);
        const Rank own_near = {scores[i], found, i}, own_nearest = {ordinary(found), 0.0f, i};
        if (is_better(own_nearest, nearest)) nearest = own_nearest;
        if (found > settings->near_iou) {
            ++count;
            if (is_better(own_near, near)) near = own_near;
        }
    }
    s->first.near[thread] = near;
    s->first.nearest[thread] = nearest;
    s->first.count[thread] = count;
}

// Two threads' parts of the first pass become one.
struct MergeNear {
    SPM_FUNCTION void merge(FirstPass* pass, int into, int from) {
        if (is_better(pass->near[from], pass->near[into])) pass->near[into] = pass->near[from];
        if (is_better(pass->nearest[from], pass->nearest[into])) pass->nearest[into] = pass->nearest[from];
        pass->count[into] += pass->count[from];
    }
};

struct MergeHighest {
    SPM_FUNCTION void merge(FirstPass* pass, int into, int from) {
        pass->highest[into] = maximum(pass->highest[into], pass->highest[from]);
    }
};

// Halves a row of partial results until [0] has them all. The last 32 threads are one warp, which waits for itself.
template <typename Merge>
SPM_BLOCK void reduce(FirstPass* pass) {
    for (int half = SELECT_THREADS / 2; half > 0; half /= 2) {
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            if (thread < half) Merge::merge(pass, thread, thread + half);
        }
        if (half > 32) {
            SPM_SYNC();
        } else {
            SPM_SYNC_WARP();
        }
    }
    SPM_SYNC();
}

// Which box is kept for the last box, or -1; it takes part in nothing else.
SPM_BLOCK void reserve(const float* scores, const float* boxes, const State* state, const Settings* settings,
                       Selection* s) {
    SPM_EACH_THREAD(thread, SELECT_THREADS) { look_at_boxes(thread, scores, boxes, state, settings, s); }
    SPM_SYNC();
    reduce<MergeNear>(&s->first);
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        if (thread == 0) {
            const bool wanted = settings->near_candidates > 0 && settings->candidates > 1;
            const FirstPass& all = s->first;
            s->reserved = !wanted ? -1 : all.count[0] >= 2 ? all.near[0].index : all.nearest[0].index;
            if (wanted) s->score[s->reserved] = -1.0f;
            s->survivors = s->kept_count = 0;
        }
    }
    SPM_SYNC();
}

// Collects those that do not lie under the floor, a share of the highest score. With NaN anywhere nobody is left, as in
// the reference.
SPM_BLOCK void apply_floor(const float* boxes, const State* state, const Settings* settings, Selection* s) {
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        float highest = s->score[thread < settings->anchors ? thread : 0];
        for (int i = thread; i < settings->anchors; i += SELECT_THREADS) highest = maximum(highest, s->score[i]);
        s->first.highest[thread] = highest;
    }
    SPM_SYNC();
    reduce<MergeHighest>(&s->first);
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        if (thread == 0) s->floor = settings->score_floor * s->first.highest[0];
    }
    SPM_SYNC();
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        for (int i = thread; i < settings->anchors; i += SELECT_THREADS) {
            if (!(s->score[i] >= s->floor && s->score[i] >= 0.0f)) continue;
            const int place = next_place(&s->survivors);
            s->rest.index[place] = (unsigned short)i;
            s->rest.box[place] = to_frame(load_box(boxes + 4 * i), state);
        }
    }
    SPM_SYNC();
}

// A thread's survivors without those that the box kept last (0: none yet) suppresses: the best one's key, 0 if none is left.
SPM_FUNCTION unsigned long long best_left(int thread, unsigned long long last, const Settings* settings, Selection* s) {
    const Box kept = s->rest.box[key_place(last)];
    unsigned long long best = 0;
    for (int place = thread; place < s->survivors; place += SELECT_THREADS) {
        const int index = s->rest.index[place];
        if (s->score[index] < 0.0f) continue;
        if (last != 0 && (place == key_place(last) ||
                          overlap(s->rest.box[place], kept, 0.0f) >= settings->nms_threshold)) {
            s->score[index] = -1.0f;
            continue;
        }
        const unsigned long long key = key_of(s->score[index], index, place);
        if (key > best) best = key;
    }
    return best;
}

SPM_FUNCTION void take_larger(unsigned long long* into, unsigned long long value) {
    if (value > *into) *into = value;
}

// Greedy suppression: up to `wanted` rounds. One warp finds the best of all threads' best.
SPM_BLOCK void suppress(int wanted, const Settings* settings, Selection* s) {
    const int used = s->survivors < SELECT_THREADS ? s->survivors : SELECT_THREADS;
    for (int round = 0; round < wanted; ++round) {
        const unsigned long long last = round > 0 ? s->kept[round - 1] : 0;
        unsigned long long* const best = s->rest.best;
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            if (thread < 32) best[thread] = 0;  // also where there are fewer
            if (thread < used) best[thread] = best_left(thread, last, settings, s);
        }
        SPM_SYNC();
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            if (thread < 32) {
                for (int other = thread + 32; other < used; other += 32) take_larger(best + thread, best[other]);
            }
        }
        SPM_SYNC_WARP();
        for (int half = 16; half > 0; half /= 2) {
            SPM_EACH_THREAD(thread, SELECT_THREADS) {
                if (thread < half) take_larger(best + thread, best[thread + half]);
            }
            SPM_SYNC_WARP();
        }
        SPM_EACH_THREAD(thread, SELECT_THREADS) {
            if (thread == 0) {
                s->kept[round] = best[0];
                s->kept_count += best[0] != 0;
            }
        }
        SPM_SYNC();
        if (s->kept[round] == 0) return;
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
    reserve(scores, boxes, state, settings, &s);
    apply_floor(boxes, state, settings, &s);
    suppress(settings->candidates - (s.reserved >= 0 ? 1 : 0), settings, &s);
    SPM_EACH_THREAD(thread, SELECT_THREADS) {
        const int found = s.kept_count + (s.reserved >= 0 ? 1 : 0);
        if (thread == 0) *count = found;
        for (int row = thread; row < settings->candidates; row += SELECT_THREADS) {
            const int last = s.reserved >= 0 ? s.reserved : (found > 0 ? key_index(s.kept[found - 1]) : 0);
            const int index = row < s.kept_count ? key_index(s.kept[row]) : last;
            const Box box = load_box(boxes + 4 * index);
            indices[row] = index;
            own_scores[row] = scores[index];
            store_box(crop_boxes + 4 * row, box);
            store_box(frame_boxes + 4 * row, to_frame(box, state));
        }
    }
}

}  // namespace spm
