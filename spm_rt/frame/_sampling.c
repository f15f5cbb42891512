/* Bilinear samples of a uint8 frame under a region, straight into the network's planes, and sums over a whole frame: see
 * crop.py, which does the same with OpenCV where this module was not built. The arithmetic is that of crop.crop_exact,
 * operation by operation, so it must be compiled without contraction to fused multiply-adds (setup.py says so).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
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

/* Rows first to last - 1 of a frame, added to one sum per channel. */
static void add_rows(const Py_buffer *frame, Py_ssize_t first, Py_ssize_t last, uint64_t *sums)
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

static PyObject *sample_region(PyObject *module, PyObject *arguments)
{
    PyObject *objects[2], *result = NULL;
    double region[4];
    Py_buffer frame, crop;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OddddO", &objects[0], &region[0], &region[1], &region[2], &region[3], &objects[1]) ||
        PyObject_GetBuffer(objects[0], &frame, PyBUF_STRIDES | PyBUF_FORMAT) != 0)
        return NULL;
    if (PyObject_GetBuffer(objects[1], &crop, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE) == 0) {
        result = check_and_sample(&frame, region, &crop);
        PyBuffer_Release(&crop);
    }
    PyBuffer_Release(&frame);
    return result;
}

static PyObject *sum_rows(PyObject *module, PyObject *arguments)
{
    PyObject *object, *result = NULL;
    Py_ssize_t first, last;
    Py_buffer frame;
    uint64_t sums[4] = {0, 0, 0, 0};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "Onn", &object, &first, &last) ||
        PyObject_GetBuffer(object, &frame, PyBUF_STRIDES | PyBUF_FORMAT) != 0)
        return NULL;
    if (!is_frame(&frame))
        PyErr_SetString(PyExc_ValueError, "frame must be uint8 [h, w, 1, 3 or 4]");
    else if (first < 0 || first > last || last > frame.shape[0])
        PyErr_SetString(PyExc_ValueError, "first and last must be rows of the frame");
    else {
        Py_BEGIN_ALLOW_THREADS
        add_rows(&frame, first, last, sums);
        Py_END_ALLOW_THREADS
        result = Py_BuildValue("KKKK", sums[0], sums[1], sums[2], sums[3]);
    }
    PyBuffer_Release(&frame);
    return result;
}

static PyMethodDef methods[] = {
    {"sample_region", sample_region, METH_VARARGS,
     "sample_region(frame, x1, y1, x2, y2, out): bilinear samples of a uint8 frame [h, w, channels], the first and last on "
     "the region's edges, into out, float32 [3, ny, nx]. None, or, where some lie outside the frame and were not written, "
     "(left, right, top, bottom) of those that do not."},
    {"sum_rows", sum_rows, METH_VARARGS,
     "sum_rows(frame, first, last): sums over rows first to last - 1 of a uint8 frame [h, w, channels], four of them, zero "
     "for channels that it has not."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sampling", "Bilinear samples of a frame under a region, and sums over it.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sampling(void)
{
    return PyModule_Create(&definition);
}
