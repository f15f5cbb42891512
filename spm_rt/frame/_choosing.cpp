// The coarse stage's proposals in one pass over few bytes, and the choice among them: what proposals.select_proposals and
// fusion do with numpy where this module was not built, bit for bit. The arithmetic is that of the CUDA kernels, whose
// headers are included; only the selection is written for one thread, which need not look at all boxes in every round.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../gpu/kernels/fusion.h"
#include "../gpu/kernels/proposals.h"

using namespace spm;

// The proposal kept for the last box (proposals.reserve_near).
static int reserve_near(const float* scores, const Box* boxes, int count, Box last, float near_iou) {
    Rank best = {0.0f, 0.0f, -1};
    int near = 0, nearest = 0;
    float largest = -1.0f;
    for (int i = 0; i < count; ++i) {
        const float value = overlap(boxes[i], last, 1.0f);
        if (value > largest) {
            largest = value;
            nearest = i;
        }
        if (value > near_iou) {
            ++near;
            if (is_better({scores[i], value, i}, best)) best = {scores[i], value, i};
        }
    }
    return near >= 2 ? best.index : nearest;
}

// Greedy suppression: the best of those alive, again and again; equal scores by index. How many were kept.
static int keep_apart(const float* scores, const Box* boxes, int* alive, int count, float limit, int wanted, int* kept) {
    int found = 0;
    while (found < wanted && count > 0) {
        int best = 0, left = 0;
        for (int i = 1; i < count; ++i) {
            if (scores[alive[i]] > scores[alive[best]]) best = i;
        }
        const int chosen = alive[best];
        kept[found++] = chosen;
        for (int i = 0; i < count; ++i) {
            if (i != best && !(overlap(boxes[alive[i]], boxes[chosen], 0.0f) >= limit)) alive[left++] = alive[i];
        }
        count = left;
    }
    return found;
}

// proposals.select_proposals: how many indices were written to `kept`.
static int select_proposals(const float* scores, const Box* boxes, int count, const State& state, const Settings& settings,
                            int* alive, int* kept) {
    int found = 0, pool = 0, wanted = settings.candidates, reserved = -1;
    if (settings.near_candidates > 0 && wanted > 1) {
        reserved = reserve_near(scores, boxes, count, last_box(&state), settings.near_iou);
        --wanted;
    }
    float largest = -INFINITY;
    for (int i = 0; i < count; ++i) largest = maximum(largest, i == reserved ? -1.0f : scores[i]);
    float floor = settings.score_floor * largest;
    if (!is_nan(floor)) {
        floor = floor > 0.0f ? floor : 0.0f;
        for (int i = 0; i < count; ++i) {
            if (i != reserved && scores[i] >= floor) alive[pool++] = i;
        }
        found = keep_apart(scores, boxes, alive, pool, settings.nms_threshold, wanted, kept);
    }
    if (reserved >= 0) kept[found++] = reserved;
    return found;
}

// Contiguous arrays that a caller gave: float32, the last one, which is a box, float64.
template <int COUNT>
class Arrays {
public:
    explicit Arrays(PyObject* const* given) {
        while (held < COUNT && PyObject_GetBuffer(given[held], &buffers[held], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) == 0) {
            ++held;
        }
    }
    ~Arrays() {
        while (held > 0) PyBuffer_Release(&buffers[--held]);
    }
    bool all() const { return held == COUNT; }
    const float* floats(int at) const { return static_cast<const float*>(buffers[at].buf); }
    Py_ssize_t rows(int at) const { return buffers[at].len / 4; }

    // Whether array `at` holds `rows` scores (or boxes, where `columns` is 4).
    bool is(int at, Py_ssize_t rows, int columns) const { return has(at, "f", 4 * rows * columns); }
    // The last array as the state's box; where it is none, false with an exception set.
    bool get_box(State* state) const {
        const bool box = has(COUNT - 1, "d", sizeof(state->box));
        if (box) std::memcpy(state->box, buffers[COUNT - 1].buf, sizeof(state->box));
        if (!box) PyErr_Format(PyExc_ValueError, "the last box must be float64 [4]");
        return box;
    }

private:
    bool has(int at, const char* format, Py_ssize_t bytes) const {
        const Py_buffer& buffer = buffers[at];
        return buffer.format && std::strcmp(buffer.format, format) == 0 && buffer.len == bytes;
    }
    Py_buffer buffers[COUNT];
    int held = 0;
};

// Room for `count` rows of floats as a bytearray: numpy makes a writable array of it without a copy.
static float* new_rows(PyObject** array, int count, int columns) {
    *array = PyByteArray_FromStringAndSize(nullptr, count * columns * static_cast<Py_ssize_t>(sizeof(float)));
    return *array ? reinterpret_cast<float*>(PyByteArray_AS_STRING(*array)) : nullptr;
}

// Crop boxes, frame boxes and scores of those that were chosen.
static PyObject* gather(const float* scores, const float* boxes, const Box* frame, const int* kept, int found) {
    PyObject *arrays[3] = {nullptr, nullptr, nullptr}, *result = nullptr;
    float *crop_rows = new_rows(&arrays[0], found, 4), *frame_rows = new_rows(&arrays[1], found, 4);
    float* score_rows = new_rows(&arrays[2], found, 1);
    if (crop_rows && frame_rows && score_rows) {
        for (int i = 0; i < found; ++i) {
            store_box(crop_rows + 4 * i, load_box(boxes + 4 * kept[i]));
            store_box(frame_rows + 4 * i, frame[kept[i]]);
            score_rows[i] = scores[kept[i]];
        }
        result = PyTuple_Pack(3, arrays[0], arrays[1], arrays[2]);
    }
    for (PyObject* array : arrays) Py_XDECREF(array);
    return result;
}

static PyObject* propose(PyObject*, PyObject* arguments) {
    PyObject* given[3];
    State state = {};
    Settings settings = {};
    if (!PyArg_ParseTuple(arguments, "OOO(ddd)fffii", &given[0], &given[1], &given[2], &state.scale, &state.region[0],
                          &state.region[1], &settings.near_iou, &settings.score_floor, &settings.nms_threshold,
                          &settings.near_candidates, &settings.candidates)) {
        return nullptr;
    }
    const Arrays<3> arrays(given);
    if (!arrays.all() || !arrays.get_box(&state)) return nullptr;
    const Py_ssize_t rows = arrays.rows(0);
    if (!arrays.is(0, rows, 1) || !arrays.is(1, rows, 4) || rows < 1 || rows > 1 << 24 || settings.candidates < 1) {
        return PyErr_Format(PyExc_ValueError, "scores [n] and boxes [n, 4] must be float32, n and wanted > 0");
    }
    Box* const frame = static_cast<Box*>(PyMem_Malloc(rows * (sizeof(Box) + 2 * sizeof(int))));
    if (!frame) return PyErr_NoMemory();
    const int count = static_cast<int>(rows);
    int *const alive = reinterpret_cast<int*>(frame + count), *const kept = alive + count;
    for (int i = 0; i < count; ++i) frame[i] = to_frame(load_box(arrays.floats(1) + 4 * i), &state);
    const int found = select_proposals(arrays.floats(0), frame, count, state, settings, alive, kept);
    PyObject* const result = gather(arrays.floats(0), arrays.floats(1), frame, kept, found);
    PyMem_Free(frame);
    return result;
}

static PyObject* decide(PyObject*, PyObject* arguments) {
    PyObject* given[6];
    int height, width;
    State state = {};
    Settings settings = {};
    Result result = {};
    if (!PyArg_ParseTuple(arguments, "OOOOOO(ddd)(dddd)(ii)ipfffddd", &given[0], &given[1], &given[2], &given[3],
                          &given[4], &given[5], &state.scale, &state.region[0], &state.region[1], &state.extent[0],
                          &state.extent[1], &state.extent[2], &state.extent[3], &height, &width, &settings.crop_size,
                          &settings.mode, &settings.fine_score_weight, &settings.fine_box_weight,
                          &settings.window_influence, &settings.update_threshold, &settings.size_rate,
                          &settings.min_side)) {
        return nullptr;
    }
    static_assert(SERIES_PARALLEL == 0 && SERIES == 1, "the truth of `series`");
    const Arrays<6> arrays(given);
    if (!arrays.all() || !arrays.get_box(&state)) return nullptr;
    const Py_ssize_t rows = arrays.rows(2);
    bool good = rows > 0 && rows <= MAX_CANDIDATES;
    for (int i = 0; i < 5; ++i) good = good && arrays.is(i, rows, i == 2 || i == 3 ? 1 : 4);
    if (!good) {
        return PyErr_Format(PyExc_ValueError, "boxes [k, 4] and scores [k] must be float32, k > 0 and at most %d",
                            MAX_CANDIDATES);
    }
    const int count = static_cast<int>(rows);
    fuse_block(&count, arrays.floats(2), arrays.floats(0), arrays.floats(1), arrays.floats(3), arrays.floats(4), height,
               width, &settings, &state, &result);
    return Py_BuildValue("(dddd)ffffy#", result.box[0], result.box[1], result.box[2], result.box[3], result.score,
                         result.coarse_score, result.fine_score, result.rival_score, reinterpret_cast<const char*>(result.rivals),
                         static_cast<Py_ssize_t>(result.rival_count * sizeof(Box)));
}

static PyMethodDef methods[] = {
    {"propose", propose, METH_VARARGS,
     "propose(scores, boxes, last, (scale, x, y), near_iou, score_floor, nms_threshold, reserve, wanted): proposals of "
     "coarse scores [n] and boxes [n, 4] (crop pixels, float32, contiguous) around the last box (float64): their boxes in "
     "crop pixels, in frame pixels, and their scores (bytearrays of float32)."},
    {"decide", decide, METH_VARARGS,
     "decide(crop_boxes, boxes, coarse_scores, fine_scores, fine_boxes, last, (scale, x, y), extent, (height, width), "
     "crop_size, series, fine_score_weight, fine_box_weight, window_influence, update_threshold, size_rate, min_side): "
     "both stages' scores and boxes fused: the new box (x1, y1, x2, y2), and the chosen proposal's score, coarse score and fine score, and its rivals' best score and boxes (bytes of float32)."},
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_choosing", "The coarse stage's proposals and the choice among them.", -1, methods, nullptr,
    nullptr, nullptr, nullptr,
};

PyMODINIT_FUNC PyInit__choosing() {
    PyObject* module = PyModule_Create(&definition);
    // Raised with every change of what a function takes or gives, here and where Python loads this (compiled.py).
    if (module && PyModule_AddIntConstant(module, "INTERFACE", 4) != 0) Py_CLEAR(module);
    return module;
}
