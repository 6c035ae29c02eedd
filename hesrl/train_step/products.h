// What the loops of a training step need: rows that are read from a tensor, and products.

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")

// The row of an index, which may count from the end; `bad` becomes 1 if there is none.
static inline long row(long index, long count, int *bad) {
    if (index < 0) index += count;
    if (index >= 0 && index < count) return index;
    *bad = 1;
    return 0;
}

// Quotient of polynomials; P and Q are a minimax fit of the relative error, 2e-8 as such and 4e-7 in
// single precision.
static inline float tangent(float x) {
    x = x < -9.0f ? -9.0f : x > 9.0f ? 9.0f : x;
    float s = x * x;
    float p = (((1.33555588205e-8f * s + 2.06098707931e-5f) * s + 0.00349564243704f) * s
               + 0.133810735731f) * s + 0.999999979286f;
    float q = (((7.77696671563e-7f * s + 0.000328571907832f) * s + 0.0258771956415f) * s
               + 0.467143892367f) * s + 1.0f;
    float t = x * p / q;
    return t < -1.0f ? -1.0f : t > 1.0f ? 1.0f : t;
}

static inline double tangent(double x) { return __builtin_tanh(x); }

// Two units in the last place at most: eˣ = 2ⁿ eʳ with |r| ≤ ½ ln 2, and a polynomial for eʳ.
static inline float exponential(float x) {
    x = x < -110.0f ? -110.0f : x > 100.0f ? 100.0f : x;
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // rounded
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = (((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r
                 + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f) * r * r
              + r + 1.0f;
    int half = (int)n / 2, rest = (int)n - half;  // 2ⁿ itself may be beyond all numbers
    int of_half = (half + 127) << 23, of_rest = (rest + 127) << 23;
    float a, b;
    __builtin_memcpy(&a, &of_half, 4);
    __builtin_memcpy(&b, &of_rest, 4);
    return p * a * b;
}

static inline double exponential(double x) { return __builtin_exp(x); }

// Compiled once, for numbers that the caller gives.
#if defined(__clang__)
#define SEPARATE __attribute__((noinline)) static
#else
#define SEPARATE __attribute__((noinline, noclone)) static
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#if !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
#endif

template <typename T> struct Vector {
    static const long lanes = VECTOR_BYTES / sizeof(T);
    typedef T type __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};

template <typename T>
SEPARATE void store(const T *entries, long rows, long width, long columns, T *out, long so0, long so1) {
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < columns; j++) out[r * so0 + j * so1] = entries[r * width + j];
}

// R rows and C vectors of a product, for b whose rows lie `sb` apart and whose columns side by side.
template <typename T, int R, int C>
static inline void tile(long k, const T *a, long sa0, long sa1, const T *b, long sb, T *out, long so0,
                        long so1, long columns) {
#if defined(__clang__)
#pragma clang fp contract(fast)
#endif
    typedef typename Vector<T>::type V;
    const long lanes = Vector<T>::lanes;
    V sums[R][C] = {};
    for (long l = 0; l < k; l++) {
        V row[C];
        for (int c = 0; c < C; c++) row[c] = *(const V *)(b + l * sb + c * lanes);
        for (int r = 0; r < R; r++) {
            const T entry = a[r * sa0 + l * sa1];
            for (int c = 0; c < C; c++) sums[r][c] += row[c] * entry;
        }
    }
    const bool is_whole = so1 == 1 && columns == C * lanes;
    T entries[R * C * Vector<T>::lanes];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++)
            *(V *)(is_whole ? out + r * so0 + c * lanes : entries + (r * C + c) * lanes) = sums[r][c];
    if (!is_whole) store(entries, R, C * lanes, columns, out, so0, so1);
}

template <typename T, int C>
SEPARATE void panel(long m, long columns, long k, const T *a, long sa0, long sa1, const T *b, long sb,
                  T *out, long so0, long so1) {
    long i = 0;
    for (; i + 6 <= m; i += 6)
        tile<T, 6, C>(k, a + i * sa0, sa0, sa1, b, sb, out + i * so0, so0, so1, columns);
    for (; i + 2 <= m; i += 2)
        tile<T, 2, C>(k, a + i * sa0, sa0, sa1, b, sb, out + i * so0, so0, so1, columns);
    if (i < m) tile<T, 1, C>(k, a + i * sa0, sa0, sa1, b, sb, out + i * so0, so0, so1, columns);
}

// Copies a panel of b for tiles, with zeros beside it.
template <typename T, int C>
SEPARATE void copy_panel(long k, long columns, const T *b, long sb0, long sb1, T *copy) {
    const long width = C * Vector<T>::lanes;
    if (columns == width && sb1 == 1) {
        for (long l = 0; l < k; l++)
            for (long c = 0; c < width; c++) copy[l * width + c] = b[l * sb0 + c];
    } else if (columns == width && sb0 == 1) {
        for (long l = 0; l < k; l++)
            for (long c = 0; c < width; c++) copy[l * width + c] = b[l + c * sb1];
    } else {
        for (long l = 0; l < k; l++)
            for (long c = 0; c < width; c++)
                copy[l * width + c] = c < columns ? b[l * sb0 + c * sb1] : 0;
    }
}

// out = a b for a (m, k) and b (k, n). Panels of b that do not lie as the tiles need them, and those
// of a large b, are copied. Where fewer entries of vectors are unused in it, out' = b' a' is taken.
template <typename T>
SEPARATE void product(long m, long n, long k, const T *a, long sa0, long sa1, const T *b, long sb0,
                      long sb1, T *out, long so0, long so1) {
    const long lanes = Vector<T>::lanes, wide = 2 * lanes;
    if (sa0 == 1 && (n + lanes - 1) / lanes * m > (m + lanes - 1) / lanes * n)
        return product<T>(n, m, k, b, sb1, sb0, a, sa1, sa0, out, so1, so0);
    const bool is_large = k * n * (long)sizeof(T) > 32768;
    T *copy = 0;
    for (long j = 0; j < n; j += wide) {
        const long columns = n - j < wide ? n - j : wide, padded = columns > lanes ? wide : lanes;
        const T *from = b + j * sb1;
        long step = sb0;
        if (sb1 != 1 || columns != padded || is_large) {
            if (!copy) copy = (T *)__builtin_malloc(k * wide * sizeof(T));
            if (padded == wide)
                copy_panel<T, 2>(k, columns, from, sb0, sb1, copy);
            else
                copy_panel<T, 1>(k, columns, from, sb0, sb1, copy);
            from = copy;
            step = padded;
        }
        if (padded == wide)
            panel<T, 2>(m, columns, k, a, sa0, sa1, from, step, out + j * so1, so0, so1);
        else
            panel<T, 1>(m, columns, k, a, sa0, sa1, from, step, out + j * so1, so0, so1);
    }
    if (copy) __builtin_free(copy);
}

#if !defined(__clang__)
#pragma GCC pop_options
#endif
