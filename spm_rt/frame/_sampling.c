/* Bilinear samples of a uint8 frame under a region, straight into the network's planes, and sums over a whole frame: see
 * crop.py, which does the same with OpenCV where this module was not built. The arithmetic is that of crop.crop_exact,
 * operation by operation, so it must be compiled without contraction to fused multiply-adds (setup.py says so).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pythread.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Where the two neighbours of a sample lie along one axis, in bytes from the first pixel, and how far it is between. */
typedef struct {
    Py_ssize_t low, high;
    float fraction;
} Position;

/* The part of a crop's row or column that lies on the frame: samples first to last - 1. */
typedef struct {
    Py_ssize_t first, last;
} Part;

static inline float position(Py_ssize_t i, float step, float start)
{
    float offset = (float)i * step;
    return offset + start;
}

/* `count` positions from `low` to `high` along an axis of `size` pixels (crop.sample_positions), and where those that lie
 * on it fall, from positions[0] on. */
static Part find_positions(double low, double high, Py_ssize_t size, Py_ssize_t stride, Py_ssize_t count, Position *positions)
{
    float end = (float)(size - 1), a = (float)low / end, b = (float)high / end;
    float step = (b - a) * end / (float)(count - 1), start = a * end;
    Py_ssize_t i = 0;
    while (i < count && !(position(i, step, start) >= 0.0f)) /* also where it is no number */
        i++;
    Part part = {i, i};
    for (; i < count && position(i, step, start) <= end; i++) {
        float exact = position(i, step, start), below = floorf(exact);
        Py_ssize_t whole = (Py_ssize_t)below, next = (Py_ssize_t)ceilf(exact);
        Position *position = positions + (i - part.first);
        position->low = (whole < size ? whole : size - 1) * stride;
        position->high = (next < size ? next : size - 1) * stride;
        position->fraction = exact - below;
    }
    part.last = i;
    return part;
}

static inline float mix(float a, float b, float fraction)
{
    return a + (b - a) * fraction;
}

#if defined(__SSE2__)
/* The four bytes from p on as floats: one pixel, and what follows it. */
static inline __m128 pixel(const uint8_t *p)
{
    int32_t bytes;
    memcpy(&bytes, p, 4);
    __m128i zero = _mm_setzero_si128();
    __m128i words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), zero);
    return _mm_cvtepi32_ps(_mm_unpacklo_epi16(words, zero));
}

static inline __m128 mix4(__m128 a, __m128 b, __m128 fraction)
{
    return _mm_add_ps(a, _mm_mul_ps(_mm_sub_ps(b, a), fraction));
}

/* Samples along a row of interleaved pixels; what a later row will need is fetched meanwhile. */
static void mix_pixels(const uint8_t *row, const uint8_t *later, const Position *x, Py_ssize_t count, float (*mixed)[4])
{
    for (Py_ssize_t i = 0; i < count; i++) {
        _mm_prefetch((const char *)later + x[i].low, _MM_HINT_T0);
        _mm_storeu_ps(mixed[i], mix4(pixel(row + x[i].low), pixel(row + x[i].high), _mm_set1_ps(x[i].fraction)));
    }
}

/* Two mixed rows mixed, four columns at a time, and taken apart into planes; how many of `count` were made. */
static Py_ssize_t mix_quads(const float (*upper)[4], const float (*lower)[4], float fraction, Py_ssize_t count,
                            float *const planes[3])
{
    __m128 weight = _mm_set1_ps(fraction);
    Py_ssize_t i = 0;
    for (; i + 4 <= count; i += 4) {
        __m128 samples[4];
        for (int k = 0; k < 4; k++)
            samples[k] = mix4(_mm_loadu_ps(upper[i + k]), _mm_loadu_ps(lower[i + k]), weight);
        _MM_TRANSPOSE4_PS(samples[0], samples[1], samples[2], samples[3]);
        for (int c = 0; c < 3; c++)
            _mm_storeu_ps(planes[c] + i, samples[c]);
    }
    return i;
}
#endif

/* The grid's columns, and what of a frame's row can be read four bytes at a time. */
typedef struct {
    const Position *x;
    Py_ssize_t count, whole; /* columns; those of the first that read nothing behind the frame */
    Py_ssize_t step;         /* bytes from channel to channel */
} Columns;

static Columns find_columns(const Py_buffer *frame, const Position *x, Py_ssize_t count)
{
    Py_ssize_t channels = frame->shape[2];
    Columns columns = {x, count, 0, channels == 1 ? 0 : frame->strides[2]};
#if defined(__SSE2__)
    if (channels >= 3 && columns.step == 1 && frame->strides[1] == channels) {
        Py_ssize_t limit = (frame->shape[1] - (channels == 3)) * channels;
        while (columns.whole < count && x[columns.whole].high < limit)
            columns.whole++;
    }
#endif
    return columns;
}

/* A row of the frame, mixed at every column: kept, since rows of the grid that lie closer than the frame's share them. */
typedef struct {
    const uint8_t *of; /* the frame's row, or NULL */
    float (*mixed)[4]; /* three channels, and nothing */
} MixedRow;

static void mix_row(const uint8_t *row, const uint8_t *later, const Columns *columns, MixedRow *kept)
{
#if defined(__SSE2__)
    mix_pixels(row, later, columns->x, columns->whole, kept->mixed);
#else
    (void)later;
#endif
    for (Py_ssize_t i = columns->whole; i < columns->count; i++)
        for (int c = 0; c < 3; c++) {
            const Position *x = columns->x + i;
            kept->mixed[i][c] = mix(row[c * columns->step + x->low], row[c * columns->step + x->high], x->fraction);
        }
    kept->of = row;
}

/* The one of two kept rows that is `row`, made where neither is, instead of the one that is not `other`. */
static const MixedRow *get_row(const uint8_t *row, const uint8_t *other, const uint8_t *later, const Columns *columns,
                               MixedRow kept[2])
{
    for (int i = 0; i < 2; i++)
        if (kept[i].of == row)
            return kept + i;
    MixedRow *free_one = kept + (kept[0].of == other);
    mix_row(row, later, columns, free_one);
    return free_one;
}

static void mix_rows(const MixedRow *upper, const MixedRow *lower, float fraction, Py_ssize_t count,
                     float *const planes[3])
{
    Py_ssize_t done = 0;
#if defined(__SSE2__)
    done = mix_quads((const float (*)[4])upper->mixed, (const float (*)[4])lower->mixed, fraction, count, planes);
#endif
    for (Py_ssize_t i = done; i < count; i++)
        for (int c = 0; c < 3; c++)
            planes[c][i] = mix(upper->mixed[i][c], lower->mixed[i][c], fraction);
}

/* Where samples are taken, and where they go: rows of floats in each of three planes. */
typedef struct {
    const Position *x;
    Py_ssize_t nx;
    const Position *y;
    Py_ssize_t ny;
    char *out;
    Py_ssize_t plane, row; /* bytes */
} Grid;

/* All samples. What was given has been checked; `space` is for two mixed rows. */
static void sample_grid(const Py_buffer *frame, const Grid *grid, float (*space)[4])
{
    Columns columns = find_columns(frame, grid->x, grid->nx);
    MixedRow kept[2] = {{NULL, space}, {NULL, space + grid->nx}};
    for (Py_ssize_t row = 0; row < grid->ny; row++) {
        const Position *y = grid->y + row, *next = grid->y + (row + 1 < grid->ny ? row + 1 : row);
        const uint8_t *pixels = frame->buf, *first = pixels + y->low, *second = pixels + y->high;
        float *planes[3];
        for (int c = 0; c < 3; c++)
            planes[c] = (float *)(grid->out + c * grid->plane + row * grid->row);
        const MixedRow *upper = get_row(first, second, pixels + next->low, &columns, kept);
        mix_rows(upper, get_row(second, first, pixels + next->high, &columns, kept), y->fraction, grid->nx, planes);
    }
}

/* A sum over a frame that several threads work at, a few rows at a time. */
enum { MOST_HELPERS = 7, BYTES_AT_A_TIME = 1 << 17 };

typedef struct Sums Sums;

typedef struct {
    Sums *sums;
    PyThread_type_lock busy; /* held while the helper is at work */
} Helper;

struct Sums {
    Py_buffer frame;
    Py_ssize_t rows; /* at a time */
    Helper helpers[MOST_HELPERS];
    PyThread_type_lock gate; /* guards what follows */
    Py_ssize_t next;         /* the first row that nobody has taken */
    uint64_t totals[4];
};

#if defined(__SSE2__)
enum { BLOCK = 48 }; /* bytes: three registers, which begin with the same channel again for 1, 3 and 4 channels */

/* Sums over as many whole blocks as `count` bytes hold; the number of bytes that they take. */
static Py_ssize_t sum_blocks(const uint8_t *bytes, Py_ssize_t count, Py_ssize_t channels, uint64_t *sums)
{
    const __m128i low = _mm_set1_epi16(0xff);
    Py_ssize_t blocks = count / BLOCK;
    for (Py_ssize_t left = blocks; left > 0;) {
        Py_ssize_t some = left < 256 ? left : 256; /* 256 bytes fit into 16 bits */
        __m128i even[3], odd[3];
        for (int r = 0; r < 3; r++)
            even[r] = odd[r] = _mm_setzero_si128();
        left -= some;
        for (; some > 0; some--, bytes += BLOCK)
            for (int r = 0; r < 3; r++) {
                __m128i pair = _mm_loadu_si128((const __m128i *)(bytes + 16 * r));
                even[r] = _mm_add_epi16(even[r], _mm_and_si128(pair, low));
                odd[r] = _mm_add_epi16(odd[r], _mm_srli_epi16(pair, 8));
            }
        for (int r = 0; r < 3; r++) {
            uint16_t lanes[2][8];
            _mm_storeu_si128((__m128i *)lanes[0], even[r]);
            _mm_storeu_si128((__m128i *)lanes[1], odd[r]);
            for (int i = 0; i < 16; i++)
                sums[(16 * r + i) % channels] += lanes[i % 2][i / 2];
        }
    }
    return blocks * BLOCK;
}
#endif

static void sum_rows(const Py_buffer *frame, Py_ssize_t first, Py_ssize_t last, uint64_t *sums)
{
    Py_ssize_t width = frame->shape[1], channels = frame->shape[2];
    int dense = frame->strides[2] == 1 && frame->strides[1] == channels;
    for (Py_ssize_t y = first; y < last; y++) {
        const uint8_t *row = (const uint8_t *)frame->buf + y * frame->strides[0];
        Py_ssize_t x = 0;
#if defined(__SSE2__)
        if (dense)
            x = sum_blocks(row, width * channels, channels, sums) / channels;
#else
        (void)dense;
#endif
        for (; x < width; x++)
            for (Py_ssize_t c = 0; c < channels; c++)
                sums[c] += row[x * frame->strides[1] + c * frame->strides[2]];
    }
}

/* Take rows until there are none left. */
static void work_at(Sums *sums)
{
    uint64_t own[4] = {0, 0, 0, 0};
    Py_ssize_t height = sums->frame.shape[0];
    for (;;) {
        PyThread_acquire_lock(sums->gate, WAIT_LOCK);
        Py_ssize_t first = sums->next, last = height - first > sums->rows ? first + sums->rows : height;
        sums->next = last;
        PyThread_release_lock(sums->gate);
        if (first == last)
            break;
        sum_rows(&sums->frame, first, last, own);
    }
    PyThread_acquire_lock(sums->gate, WAIT_LOCK);
    for (int c = 0; c < 4; c++)
        sums->totals[c] += own[c];
    PyThread_release_lock(sums->gate);
}

static void help(void *argument)
{
    Helper *helper = argument;
    work_at(helper->sums);
    PyThread_release_lock(helper->busy);
}

static void wait_for_helpers(Sums *sums)
{
    for (int i = 0; i < MOST_HELPERS; i++)
        if (sums->helpers[i].busy) {
            PyThread_acquire_lock(sums->helpers[i].busy, WAIT_LOCK);
            PyThread_release_lock(sums->helpers[i].busy);
        }
}

/* Fewer helpers than asked for do the same, later. */
static void start_helpers(Sums *sums, long count)
{
    for (long i = 0; i < count; i++) {
        Helper *helper = &sums->helpers[i];
        helper->sums = sums;
        helper->busy = PyThread_allocate_lock();
        if (!helper->busy)
            return;
        PyThread_acquire_lock(helper->busy, WAIT_LOCK);
        if (PyThread_start_new_thread(help, helper) == PYTHREAD_INVALID_THREAD_ID) {
            PyThread_release_lock(helper->busy);
            return;
        }
    }
}

static const char SUMS[] = "spm_rt.frame._sampling.Sums";

/* Ends a sum, whether or not anybody has asked for it. */
static void forget_sums(PyObject *capsule)
{
    Sums *sums = PyCapsule_GetPointer(capsule, SUMS);
    PyThread_acquire_lock(sums->gate, WAIT_LOCK);
    sums->next = sums->frame.shape[0];
    PyThread_release_lock(sums->gate);
    wait_for_helpers(sums);
    for (int i = 0; i < MOST_HELPERS; i++)
        if (sums->helpers[i].busy)
            PyThread_free_lock(sums->helpers[i].busy);
    PyThread_free_lock(sums->gate);
    PyBuffer_Release(&sums->frame);
    PyMem_Free(sums);
}

static int is_frame(const Py_buffer *buffer)
{
    return buffer->ndim == 3 && buffer->itemsize == 1 && buffer->format && strcmp(buffer->format, "B") == 0 &&
           (buffer->shape[2] == 1 || buffer->shape[2] == 3 || buffer->shape[2] == 4);
}

static int is_float(const Py_buffer *buffer)
{
    return buffer->itemsize == 4 && buffer->format && strcmp(buffer->format, "f") == 0;
}

static int is_crop(const Py_buffer *buffer)
{
    return buffer->ndim == 3 && is_float(buffer) && buffer->shape[0] == 3 && buffer->shape[1] > 1 &&
           buffer->shape[2] > 1 && buffer->strides[2] == 4;
}

/* (left, right, top, bottom) of the part of a crop that lies on the frame, or None where all of it does. */
static PyObject *describe(Part x, Part y, const Py_buffer *crop)
{
    if (x.first == 0 && y.first == 0 && x.last == crop->shape[2] && y.last == crop->shape[1])
        Py_RETURN_NONE;
    return Py_BuildValue("nnnn", x.first, x.last, y.first, y.last);
}

/* Check everything that memory safety needs, then sample; NULL with an exception set where something is wrong. */
static PyObject *check_and_sample(const Py_buffer *frame, const double region[4], const Py_buffer *crop)
{
    if (!is_frame(frame) || frame->shape[0] < 2 || frame->shape[1] < 2)
        return PyErr_Format(PyExc_ValueError, "frame must be uint8 [h, w, 1, 3 or 4], h and w at least 2");
    if (!is_crop(crop))
        return PyErr_Format(PyExc_ValueError, "out must be float32 [3, at least 2, at least 2] with contiguous rows");
    Py_ssize_t nx = crop->shape[2], ny = crop->shape[1];
    Position *positions = PyMem_Malloc((size_t)(nx + ny) * sizeof(Position));
    float(*space)[4] = PyMem_Calloc((size_t)nx * 2, sizeof(*space));
    PyObject *result = NULL;
    if (positions && space) {
        Part x, y;
        Py_BEGIN_ALLOW_THREADS
        x = find_positions(region[0], region[2], frame->shape[1], frame->strides[1], nx, positions);
        y = find_positions(region[1], region[3], frame->shape[0], frame->strides[0], ny, positions + nx);
        Grid grid = {positions, x.last - x.first, positions + nx, y.last - y.first,
                     (char *)crop->buf + y.first * crop->strides[1] + x.first * 4, crop->strides[0], crop->strides[1]};
        sample_grid(frame, &grid, space);
        Py_END_ALLOW_THREADS
        result = describe(x, y, crop);
    } else
        PyErr_NoMemory();
    PyMem_Free(positions);
    PyMem_Free(space);
    return result;
}

/* Buffers of a frame (if there is one) and of a crop to be written; 0 with an exception set if they cannot be had. */
static int get_buffers(PyObject *frame, PyObject *crop, Py_buffer buffers[2])
{
    if (PyObject_GetBuffer(crop, &buffers[1], PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE) != 0)
        return 0;
    if (!frame || PyObject_GetBuffer(frame, &buffers[0], PyBUF_STRIDES | PyBUF_FORMAT) == 0)
        return 1;
    PyBuffer_Release(&buffers[1]);
    return 0;
}

static PyObject *sample_region(PyObject *module, PyObject *arguments)
{
    PyObject *frame, *crop;
    double region[4];
    Py_buffer buffers[2];
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OddddO", &frame, &region[0], &region[1], &region[2], &region[3], &crop) ||
        !get_buffers(frame, crop, buffers))
        return NULL;
    PyObject *result = check_and_sample(&buffers[0], region, &buffers[1]);
    PyBuffer_Release(&buffers[0]);
    PyBuffer_Release(&buffers[1]);
    return result;
}

static void fill(float *row, Py_ssize_t first, Py_ssize_t last, float value)
{
    for (Py_ssize_t i = first; i < last; i++)
        row[i] = value;
}

static PyObject *fill_rim(PyObject *module, PyObject *arguments)
{
    PyObject *given;
    Py_ssize_t left, right, top, bottom;
    float color[3];
    Py_buffer buffers[2], *crop = buffers + 1;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "O(nnnn)(fff)", &given, &left, &right, &top, &bottom, &color[0], &color[1],
                          &color[2]) ||
        !get_buffers(NULL, given, buffers))
        return NULL;
    int fits = is_crop(crop) && 0 <= left && left <= right && right <= crop->shape[2] && 0 <= top && top <= bottom &&
               bottom <= crop->shape[1];
    for (Py_ssize_t c = 0; fits && c < 3; c++)
        for (Py_ssize_t y = 0; y < crop->shape[1]; y++) {
            float *row = (float *)((char *)crop->buf + c * crop->strides[0] + y * crop->strides[1]);
            int inside = top <= y && y < bottom;
            fill(row, 0, inside ? left : crop->shape[2], color[c]);
            fill(row, inside ? right : crop->shape[2], crop->shape[2], color[c]);
        }
    PyBuffer_Release(crop);
    if (!fits)
        return PyErr_Format(PyExc_ValueError, "out must be float32 [3, h, w] with contiguous rows, the rest a part of it");
    Py_RETURN_NONE;
}

static PyObject *start_sums(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "start_sums takes frame, helpers");
    long helpers = PyLong_AsLong(arguments[1]);
    if (helpers == -1 && PyErr_Occurred())
        return NULL;
    if (helpers < 0 || helpers > MOST_HELPERS)
        return PyErr_Format(PyExc_ValueError, "helpers must be 0 to %d", MOST_HELPERS);
    Sums *sums = PyMem_Calloc(1, sizeof(Sums));
    if (!sums)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(arguments[0], &sums->frame, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
        PyMem_Free(sums);
        return NULL;
    }
    PyObject *capsule = NULL;
    sums->gate = PyThread_allocate_lock();
    if (!is_frame(&sums->frame))
        PyErr_SetString(PyExc_ValueError, "frame must be uint8 [h, w, 1, 3 or 4]");
    else if (!sums->gate)
        PyErr_NoMemory();
    else
        capsule = PyCapsule_New(sums, SUMS, forget_sums);
    if (!capsule) {
        if (sums->gate)
            PyThread_free_lock(sums->gate);
        PyBuffer_Release(&sums->frame);
        PyMem_Free(sums);
        return NULL;
    }
    sums->rows = 1 + BYTES_AT_A_TIME / (1 + sums->frame.shape[1] * sums->frame.shape[2]);
    start_helpers(sums, helpers);
    return capsule;
}

static PyObject *finish_sums(PyObject *module, PyObject *capsule)
{
    (void)module;
    Sums *sums = PyCapsule_GetPointer(capsule, SUMS);
    if (!sums)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    work_at(sums);
    wait_for_helpers(sums);
    Py_END_ALLOW_THREADS
    Py_ssize_t channels = sums->frame.shape[2];
    PyObject *result = PyTuple_New(channels);
    for (Py_ssize_t c = 0; result && c < channels; c++) {
        PyObject *total = PyLong_FromUnsignedLongLong(sums->totals[c]);
        if (!total)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, c, total);
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
    {"start_sums", (PyCFunction)(void (*)(void))start_sums, METH_FASTCALL,
     "start_sums(frame, helpers): begin to sum up each channel of a uint8 frame [h, w, channels] in 0 to 7 threads."},
    {"finish_sums", finish_sums, METH_O,
     "finish_sums(started): the sums, one per channel; the calling thread does what has not been done."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sampling", "Bilinear samples of a frame under a region, and sums over it.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sampling(void)
{
    return PyModule_Create(&definition);
}
