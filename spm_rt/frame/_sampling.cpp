// Bilinear samples of a uint8 frame under a region, straight into the network's planes, and sums over a whole frame: see
// crop.py, which does the same with OpenCV where this module was not built. The arithmetic is that of crop.crop_exact and of
// the CUDA kernels, whose header is included: it must be compiled without contraction to fused multiply-adds (setup.py).
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "../gpu/kernels/geometry.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

using namespace spm;

// Where the two neighbours of a sample lie along one axis, in bytes from the first pixel, and how far it is between.
struct Position {
    Py_ssize_t low, high;
    float fraction;
};

// The part of a crop's row or column that lies on the frame: samples first to last - 1.
struct Part {
    Py_ssize_t first, last;
};

// `count` positions from `low` to `high` along an axis of `size` pixels (crop.sample_positions), and where those that lie
// on it fall, from positions[0] on.
static Part find_positions(double low, double high, Py_ssize_t size, Py_ssize_t stride, Py_ssize_t count,
                           Position* positions) {
    const float end = (float)(size - 1);
    const Steps steps = sample_steps((float)low, (float)high, end, (int)count);
    int i = 0;
    while (i < count && !is_inside(sample_at(steps, i), end)) ++i;  // also where it is no number
    Part part = {i, i};
    for (; i < count && is_inside(sample_at(steps, i), end); ++i) {
        const Neighbours found = neighbours(sample_at(steps, i));
        const Py_ssize_t whole = std::min<Py_ssize_t>(found.low, size - 1), next = std::min<Py_ssize_t>(found.high, size - 1);
        positions[i - part.first] = {whole * stride, next * stride, found.share};
    }
    part.last = i;
    return part;
}

#if defined(__SSE2__)
// The four bytes from p on as floats: one pixel, and what follows it.
static inline __m128 pixel(const uint8_t* p) {
    int32_t bytes;
    std::memcpy(&bytes, p, 4);
    const __m128i zero = _mm_setzero_si128();
    const __m128i words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), zero);
    return _mm_cvtepi32_ps(_mm_unpacklo_epi16(words, zero));
}

static inline __m128 between4(__m128 a, __m128 b, __m128 share) {
    return _mm_add_ps(a, _mm_mul_ps(_mm_sub_ps(b, a), share));
}

// Samples along a row of interleaved pixels; what a later row will need is fetched meanwhile.
static void mix_pixels(const uint8_t* row, const uint8_t* later, const Position* x, Py_ssize_t count, float (*mixed)[4]) {
    for (Py_ssize_t i = 0; i < count; ++i) {
        _mm_prefetch((const char*)later + x[i].low, _MM_HINT_T0);
        const __m128 share = _mm_set1_ps(x[i].fraction);
        _mm_storeu_ps(mixed[i], between4(pixel(row + x[i].low), pixel(row + x[i].high), share));
    }
}

// Two mixed rows mixed, four columns at a time, and taken apart into planes; how many of `count` were made.
static Py_ssize_t mix_quads(const float (*upper)[4], const float (*lower)[4], float fraction, Py_ssize_t count,
                            float* const planes[3]) {
    const __m128 share = _mm_set1_ps(fraction);
    Py_ssize_t i = 0;
    for (; i + 4 <= count; i += 4) {
        __m128 samples[4];
        for (int k = 0; k < 4; ++k) {
            samples[k] = between4(_mm_loadu_ps(upper[i + k]), _mm_loadu_ps(lower[i + k]), share);
        }
        _MM_TRANSPOSE4_PS(samples[0], samples[1], samples[2], samples[3]);
        for (int c = 0; c < 3; ++c) _mm_storeu_ps(planes[c] + i, samples[c]);
    }
    return i;
}
#endif

// The grid's columns, and what of a frame's row can be read four bytes at a time.
struct Columns {
    const Position* x;
    Py_ssize_t count, whole;  // columns; those of the first that read nothing behind the frame
    Py_ssize_t step;          // bytes from channel to channel
};

static Columns find_columns(const Py_buffer& frame, const Position* x, Py_ssize_t count) {
    const Py_ssize_t channels = frame.shape[2];
    Columns columns = {x, count, 0, channels == 1 ? 0 : frame.strides[2]};
#if defined(__SSE2__)
    if (channels >= 3 && columns.step == 1 && frame.strides[1] == channels) {
        const Py_ssize_t limit = (frame.shape[1] - (channels == 3)) * channels;
        while (columns.whole < count && x[columns.whole].high < limit) ++columns.whole;
    }
#endif
    return columns;
}

// A row of the frame, mixed at every column: kept, since rows of the grid that lie closer than the frame's share them.
struct MixedRow {
    const uint8_t* of;  // the frame's row, or null
    float (*mixed)[4];  // three channels, and nothing
};

static void mix_row(const uint8_t* row, [[maybe_unused]] const uint8_t* later, const Columns& columns, MixedRow* kept) {
#if defined(__SSE2__)
    mix_pixels(row, later, columns.x, columns.whole, kept->mixed);
#endif
    for (Py_ssize_t i = columns.whole; i < columns.count; ++i) {
        const Position& x = columns.x[i];
        for (int c = 0; c < 3; ++c) {
            kept->mixed[i][c] = between(row[c * columns.step + x.low], row[c * columns.step + x.high], x.fraction);
        }
    }
    kept->of = row;
}

// The one of two kept rows that is `row`, made where neither is, instead of the one that is not `other`.
static const MixedRow& get_row(const uint8_t* row, const uint8_t* other, const uint8_t* later, const Columns& columns,
                               MixedRow kept[2]) {
    for (int i = 0; i < 2; ++i) {
        if (kept[i].of == row) return kept[i];
    }
    MixedRow& free_one = kept[kept[0].of == other];
    mix_row(row, later, columns, &free_one);
    return free_one;
}

static void mix_rows(const MixedRow& upper, const MixedRow& lower, float fraction, Py_ssize_t count,
                     float* const planes[3]) {
    Py_ssize_t done = 0;
#if defined(__SSE2__)
    done = mix_quads(upper.mixed, lower.mixed, fraction, count, planes);
#endif
    for (Py_ssize_t i = done; i < count; ++i) {
        for (int c = 0; c < 3; ++c) planes[c][i] = between(upper.mixed[i][c], lower.mixed[i][c], fraction);
    }
}

// Where samples are taken, and where they go: rows of floats in each of three planes.
struct Grid {
    const Position* x;
    Py_ssize_t nx;
    const Position* y;
    Py_ssize_t ny;
    char* out;
    Py_ssize_t plane, row;  // bytes
};

// All samples. What was given has been checked; `space` is for two mixed rows.
static void sample_grid(const Py_buffer& frame, const Grid& grid, float (*space)[4]) {
    const Columns columns = find_columns(frame, grid.x, grid.nx);
    MixedRow kept[2] = {{nullptr, space}, {nullptr, space + grid.nx}};
    for (Py_ssize_t row = 0; row < grid.ny; ++row) {
        const Position &y = grid.y[row], &next = grid.y[row + 1 < grid.ny ? row + 1 : row];
        const uint8_t *pixels = static_cast<const uint8_t*>(frame.buf), *first = pixels + y.low, *second = pixels + y.high;
        float* planes[3];
        for (int c = 0; c < 3; ++c) planes[c] = (float*)(grid.out + c * grid.plane + row * grid.row);
        const MixedRow& upper = get_row(first, second, pixels + next.low, columns, kept);
        const MixedRow& lower = get_row(second, first, pixels + next.high, columns, kept);
        mix_rows(upper, lower, y.fraction, grid.nx, planes);
    }
}

#if defined(__SSE2__)
enum { BLOCK = 48 };  // bytes: three registers, which begin with the same channel again for 1, 3 and 4 channels

// Sums over as many whole blocks as `count` bytes hold; the number of bytes that they take.
static Py_ssize_t sum_blocks(const uint8_t* bytes, Py_ssize_t count, Py_ssize_t channels, uint64_t* sums) {
    const __m128i low = _mm_set1_epi16(0xff);
    const Py_ssize_t blocks = count / BLOCK;
    for (Py_ssize_t left = blocks; left > 0;) {
        Py_ssize_t some = std::min<Py_ssize_t>(left, 256);  // 256 bytes fit into 16 bits
        __m128i even[3], odd[3];
        for (int r = 0; r < 3; ++r) even[r] = odd[r] = _mm_setzero_si128();
        left -= some;
        for (; some > 0; --some, bytes += BLOCK) {
            for (int r = 0; r < 3; ++r) {
                const __m128i pair = _mm_loadu_si128((const __m128i*)(bytes + 16 * r));
                even[r] = _mm_add_epi16(even[r], _mm_and_si128(pair, low));
                odd[r] = _mm_add_epi16(odd[r], _mm_srli_epi16(pair, 8));
            }
        }
        for (int r = 0; r < 3; ++r) {
            uint16_t lanes[2][8];
            _mm_storeu_si128((__m128i*)lanes[0], even[r]);
            _mm_storeu_si128((__m128i*)lanes[1], odd[r]);
            for (int i = 0; i < 16; ++i) sums[(16 * r + i) % channels] += lanes[i % 2][i / 2];
        }
    }
    return blocks * BLOCK;
}
#endif

static void sum_rows(const Py_buffer& frame, Py_ssize_t first, Py_ssize_t last, uint64_t* sums) {
    const Py_ssize_t width = frame.shape[1], channels = frame.shape[2];
    for (Py_ssize_t y = first; y < last; ++y) {
        const uint8_t* row = static_cast<const uint8_t*>(frame.buf) + y * frame.strides[0];
        Py_ssize_t x = 0;
#if defined(__SSE2__)
        const bool dense = frame.strides[2] == 1 && frame.strides[1] == channels;
        if (dense) x = sum_blocks(row, width * channels, channels, sums) / channels;
#endif
        for (; x < width; ++x) {
            for (Py_ssize_t c = 0; c < channels; ++c) sums[c] += row[x * frame.strides[1] + c * frame.strides[2]];
        }
    }
}

enum { MOST_HELPERS = 7, BYTES_AT_A_TIME = 1 << 17 };

// A sum over a frame that several threads work at, a few rows at a time.
struct Sums {
    Py_buffer frame;
    Py_ssize_t rows;                  // at a time
    std::atomic<Py_ssize_t> next{0};  // the first row that nobody has taken
    std::atomic<uint64_t> totals[4] = {};
    std::mutex gate;  // whoever waits for the helpers holds it
    std::thread helpers[MOST_HELPERS];

    // Take rows until there are none left.
    void work() {
        uint64_t own[4] = {0, 0, 0, 0};
        const Py_ssize_t height = frame.shape[0];
        for (Py_ssize_t first; (first = next.fetch_add(rows)) < height;) {
            sum_rows(frame, first, std::min(first + rows, height), own);
        }
        for (int c = 0; c < 4; ++c) totals[c] += own[c];
    }

    // Fewer helpers than asked for do the same, later.
    void start(long count) {
        try {
            for (long i = 0; i < count; ++i) helpers[i] = std::thread(&Sums::work, this);
        } catch (const std::system_error&) {
        }
    }

    void wait() {
        const std::lock_guard<std::mutex> held(gate);
        for (std::thread& helper : helpers) {
            if (helper.joinable()) helper.join();
        }
    }

    // Ends it, whether or not anybody has asked for it.
    ~Sums() {
        next = frame.shape[0];
        wait();
        PyBuffer_Release(&frame);
    }
};

static const char SUMS[] = "spm_rt.frame._sampling.Sums";

static void forget_sums(PyObject* capsule) { delete static_cast<Sums*>(PyCapsule_GetPointer(capsule, SUMS)); }

static bool is_frame(const Py_buffer& buffer) {
    return buffer.ndim == 3 && buffer.itemsize == 1 && buffer.format && std::strcmp(buffer.format, "B") == 0 &&
           (buffer.shape[2] == 1 || buffer.shape[2] == 3 || buffer.shape[2] == 4);
}

static bool is_crop(const Py_buffer& buffer) {
    return buffer.ndim == 3 && buffer.format && std::strcmp(buffer.format, "f") == 0 && buffer.shape[0] == 3 &&
           buffer.shape[1] > 1 && buffer.shape[2] > 1 && buffer.strides[2] == 4;
}

// An object's buffer while it is looked at; not `held`, with an exception set, where it cannot be had.
struct View {
    Py_buffer buffer;
    const bool held;
    View(PyObject* given, int flags)
        : held(PyObject_GetBuffer(given, &buffer, PyBUF_STRIDES | PyBUF_FORMAT | flags) == 0) {}
    ~View() {
        if (held) PyBuffer_Release(&buffer);
    }
};

// Samples under a region, and (left, right, top, bottom) of the part of the crop that lies on the frame, or None where all
// of it does. What was given has been checked.
static PyObject* sample(const Py_buffer& frame, const double region[4], const Py_buffer& crop) {
    const Py_ssize_t nx = crop.shape[2], ny = crop.shape[1];
    Position* const positions = static_cast<Position*>(PyMem_Malloc((nx + ny) * sizeof(Position)));
    float(*const space)[4] = static_cast<float(*)[4]>(PyMem_Calloc(nx * 2, sizeof(*space)));
    PyObject* result = nullptr;
    if (positions && space) {
        Part x, y;
        Py_BEGIN_ALLOW_THREADS
        x = find_positions(region[0], region[2], frame.shape[1], frame.strides[1], nx, positions);
        y = find_positions(region[1], region[3], frame.shape[0], frame.strides[0], ny, positions + nx);
        char* const out = static_cast<char*>(crop.buf) + y.first * crop.strides[1] + x.first * 4;
        const Py_ssize_t columns = x.last - x.first, rows = y.last - y.first;
        sample_grid(frame, {positions, columns, positions + nx, rows, out, crop.strides[0], crop.strides[1]}, space);
        Py_END_ALLOW_THREADS
        const bool whole = x.first == 0 && y.first == 0 && x.last == nx && y.last == ny;
        result = whole ? Py_NewRef(Py_None) : Py_BuildValue("nnnn", x.first, x.last, y.first, y.last);
    } else {
        PyErr_NoMemory();
    }
    PyMem_Free(positions);
    PyMem_Free(space);
    return result;
}

// Checks everything that memory safety needs, then samples.
static PyObject* sample_region(PyObject*, PyObject* arguments) {
    PyObject *frame, *crop;
    double region[4];
    if (!PyArg_ParseTuple(arguments, "OddddO", &frame, &region[0], &region[1], &region[2], &region[3], &crop)) {
        return nullptr;
    }
    const View from(frame, 0), to(crop, PyBUF_WRITABLE);
    if (!from.held || !to.held) return nullptr;
    if (!is_frame(from.buffer) || from.buffer.shape[0] < 2 || from.buffer.shape[1] < 2) {
        return PyErr_Format(PyExc_ValueError, "frame must be uint8 [h, w, 1, 3 or 4], h and w at least 2");
    }
    if (!is_crop(to.buffer)) {
        return PyErr_Format(PyExc_ValueError, "out must be float32 [3, at least 2, at least 2] with contiguous rows");
    }
    return sample(from.buffer, region, to.buffer);
}

static PyObject* fill_rim(PyObject*, PyObject* arguments) {
    PyObject* given;
    Py_ssize_t left, right, top, bottom;
    float color[3];
    if (!PyArg_ParseTuple(arguments, "O(nnnn)(fff)", &given, &left, &right, &top, &bottom, &color[0], &color[1],
                          &color[2])) {
        return nullptr;
    }
    const View view(given, PyBUF_WRITABLE);
    if (!view.held) return nullptr;
    const Py_buffer& crop = view.buffer;
    if (!is_crop(crop) || left < 0 || right < left || right > crop.shape[2] || top < 0 || bottom < top ||
        bottom > crop.shape[1]) {
        return PyErr_Format(PyExc_ValueError, "out must be float32 [3, h, w] with contiguous rows, the rest a part of it");
    }
    for (Py_ssize_t c = 0; c < 3; ++c) {
        for (Py_ssize_t y = 0; y < crop.shape[1]; ++y) {
            float* const row = (float*)(static_cast<char*>(crop.buf) + c * crop.strides[0] + y * crop.strides[1]);
            const bool inside = top <= y && y < bottom;
            std::fill(row, row + (inside ? left : crop.shape[2]), color[c]);
            std::fill(row + (inside ? right : crop.shape[2]), row + crop.shape[2], color[c]);
        }
    }
    Py_RETURN_NONE;
}

static PyObject* start_sums(PyObject*, PyObject* arguments) {
    PyObject* frame;
    int helpers;
    if (!PyArg_ParseTuple(arguments, "Oi", &frame, &helpers)) return nullptr;
    if (helpers < 0 || helpers > MOST_HELPERS) {
        return PyErr_Format(PyExc_ValueError, "helpers must be 0 to %d", MOST_HELPERS);
    }
    Py_buffer buffer;
    if (PyObject_GetBuffer(frame, &buffer, PyBUF_STRIDES | PyBUF_FORMAT) != 0) return nullptr;
    if (!is_frame(buffer)) {
        PyBuffer_Release(&buffer);
        return PyErr_Format(PyExc_ValueError, "frame must be uint8 [h, w, 1, 3 or 4]");
    }
    Sums* const sums = new (std::nothrow) Sums;
    if (!sums) {
        PyBuffer_Release(&buffer);
        return PyErr_NoMemory();
    }
    sums->frame = buffer;
    sums->rows = 1 + BYTES_AT_A_TIME / (1 + buffer.shape[1] * buffer.shape[2]);
    PyObject* const capsule = PyCapsule_New(sums, SUMS, forget_sums);
    if (capsule) {
        sums->start(helpers);
    } else {
        delete sums;
    }
    return capsule;
}

static PyObject* finish_sums(PyObject*, PyObject* capsule) {
    Sums* const sums = static_cast<Sums*>(PyCapsule_GetPointer(capsule, SUMS));
    if (!sums) return nullptr;
    Py_BEGIN_ALLOW_THREADS
    sums->work();
    sums->wait();
    Py_END_ALLOW_THREADS
    const Py_ssize_t channels = sums->frame.shape[2];
    PyObject* result = PyTuple_New(channels);
    for (Py_ssize_t c = 0; result && c < channels; ++c) {
        PyObject* const total = PyLong_FromUnsignedLongLong(sums->totals[c]);
        if (total) {
            PyTuple_SET_ITEM(result, c, total);
        } else {
            Py_CLEAR(result);
        }
    }
    return result;
}

static PyMethodDef methods[] = {
    {"sample_region", sample_region, METH_VARARGS,
     "sample_region(frame, x1, y1, x2, y2, out): bilinear samples of a uint8 frame [h, w, channels], the first and last on "
     "the region's edges, into out, float32 [3, ny, nx]. None, or, where some lie outside the frame and were not written, "
     "(left, right, top, bottom) of those that do not."},
    {"fill_rim", fill_rim, METH_VARARGS,
     "fill_rim(out, (left, right, top, bottom), (blue, green, red)): the colour wherever that part is not."},
    {"start_sums", start_sums, METH_VARARGS,
     "start_sums(frame, helpers): begin to sum up each channel of a uint8 frame [h, w, channels] in 0 to 7 threads."},
    {"finish_sums", finish_sums, METH_O,
     "finish_sums(started): the sums, one per channel; the calling thread does what has not been done."},
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sampling", "Bilinear samples of a frame under a region, and sums over it.", -1, methods, nullptr,
    nullptr, nullptr, nullptr,
};

PyMODINIT_FUNC PyInit__sampling() {
    PyObject* module = PyModule_Create(&definition);
    // Raised with every change of what a function takes or gives, here and where Python loads this (compiled.py).
    if (module && PyModule_AddIntConstant(module, "INTERFACE", 1) != 0) Py_CLEAR(module);
    return module;
}
