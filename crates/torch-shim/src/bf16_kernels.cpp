// The bodies of `Bf16Kernels`, for processors that multiply pairs of bfloat16 numbers into sums in f32 by one instruction.
#include "kernels.h"
#include <algorithm>
#include <cstring>
#ifdef __AVX512BF16__
#include <immintrin.h>

namespace {
// Floats of a vector, and numbers of bfloat16: pairs are as wide as floats.
constexpr long LANES = 16, BOTH = 2 * LANES;
// Columns of a panel, of a block of left rows.
constexpr long PANEL = 3 * LANES, BLOCK = 8;
typedef unsigned short Half;

inline long padded(long n) { return (n + LANES - 1) / LANES * LANES; }

// Of the first n lanes.
inline __mmask16 first(long n) { return n >= LANES ? 0xffff : static_cast<__mmask16>((1u << n) - 1); }

// Up to sixteen numbers, the rest zeros, as bits in the lower half of a lane.
inline __m512i low(const float *p, __mmask16 m) {
  return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, p))));
}
inline __m512i low(const Half *p, __mmask16 m) { return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)); }

// Sixteen pairs of neighbours in depth of one column, the rest zeros.
inline __m512i along(const float *p, long n) {
  const auto a = _mm512_maskz_loadu_ps(first(n), p), b = _mm512_maskz_loadu_ps(first(std::max(n - LANES, 0L)), p + LANES);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
}
inline __m512i along(const Half *p, long n) {
  return _mm512_maskz_loadu_epi16(n >= BOTH ? 0xffffffffu : (1u << n) - 1, p);
}

// Sixteen rows of sixteen words, transposed.
inline void turn(__m512i r[LANES]) {
  __m512i t[LANES];
  for (int i = 0; i < LANES; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < LANES; i += 4)
    for (int j = 0; j < 2; ++j) {
      r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
      r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
    }
  // Now r[4 i + j] holds, in quarter k, words of column 4 k + j and rows 4 i to 4 i + 3.
  for (int j = 0; j < 4; ++j) {
    const auto a = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88), b = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    const auto c = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88), d = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
    t[j] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
    t[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  std::copy(t, t + LANES, r);
}

// Columns that lie number by number: w[j row + p].
template <class T> void columns_along(const T *w, long row, Half *out, long columns, long depth) {
  for (long j = 0; j < columns; j += PANEL) {
    const long width = std::min(PANEL, padded(columns - j)), pairs = (depth + 1) / 2;
    for (long v = 0; v < width; v += LANES)
      for (long p = 0; p < pairs; p += LANES) {
        __m512i rows[LANES];
        for (long i = 0; i < LANES; ++i) {
          const long column = j + v + i;
          rows[i] = column < columns ? along(w + column * row + 2 * p, depth - 2 * p) : _mm512_setzero_si512();
        }
        turn(rows);
        for (long i = 0; i < std::min(LANES, pairs - p); ++i)
          _mm512_storeu_si512(out + j * 2 * pairs + (p + i) * 2 * width + 2 * v, rows[i]);
      }
  }
}

// Sixteen pairs of two rows of numbers, of the columns of `seen`; the second row may be missing.
template <class T> inline __m512i pairs_of(const T *above, const T *below, __mmask16 seen) {
  const auto words = low(above, seen);
  return below ? _mm512_or_si512(words, _mm512_slli_epi32(low(below, seen), 16)) : words;
}

// Columns that lie side by side: w[j + p row].
template <class T> void columns_beside(const T *w, long row, Half *out, long columns, long depth) {
  const long pairs = (depth + 1) / 2;
  for (long p = 0; p < pairs; ++p) {
    const T *above = w + 2 * p * row, *below = 2 * p + 1 < depth ? above + row : nullptr;
    for (long j = 0; j < columns; j += PANEL) {
      const long width = std::min(PANEL, padded(columns - j));
      for (long v = 0; v < width; v += LANES) {
        const auto words = pairs_of(above + j + v, below ? below + j + v : nullptr, first(columns - j - v));
        _mm512_storeu_si512(out + j * 2 * pairs + p * 2 * width + 2 * v, words);
      }
    }
  }
}

void panels(const float *w, long row, long step, Half *out, long columns, long depth) {
  step == 1 ? columns_along(w, row, out, columns, depth) : columns_beside(w, step, out, columns, depth);
}

void panels_of_rows(const Half *x, long row, Half *out, long columns, long rows) { columns_beside(x, row, out, columns, rows); }

// Two blocks of pairs, the second if there is one.
inline void in_blocks(Half *out, __m512i words, long pairs, bool both) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(out), _mm512_castsi512_si256(words));
  if (both) _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + 2 * BLOCK * pairs), _mm512_extracti64x4_epi64(words, 1));
}

void lefts(const Half *g, long row, Half *out, long columns, long rows) {
  const long pairs = (rows + 1) / 2;
  for (long p = 0; p < pairs; ++p) {
    const Half *above = g + 2 * p * row, *below = 2 * p + 1 < rows ? above + row : nullptr;
    for (long j = 0; j < columns; j += LANES)
      in_blocks(out + j * 2 * pairs + p * 2 * BLOCK, pairs_of(above + j, below ? below + j : nullptr, first(columns - j)), pairs, columns - j > BLOCK);
  }
}

typedef __m512 Vec;

inline Vec load(const float *p) { return _mm512_loadu_ps(p); }
inline Vec load(const Half *p) { return reinterpret_cast<Vec>(_mm512_slli_epi32(low(p, 0xffff), 16)); }
inline void store(float *p, Vec v) { _mm512_storeu_ps(p, v); }
inline void store(Half *p, Vec v) { _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v))); }

inline void store(float *c, __mmask16 m, __m512 v) { _mm512_mask_storeu_ps(c, m, v); }
inline void store(Half *c, __mmask16 m, __m512 v) { _mm256_mask_storeu_epi16(c, m, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v))); }

// c [R, W LANES] = start + sum over pairs p of a[r, p] b[p, :]; of the last vector those of `last`.
template <int R, int W, class C>
inline void tile(const Half *a, const pshim::Left &left, const Half *b, const float *start, long start_row, C *c, long c_row, long pairs,
                 __mmask16 last) {
  constexpr long LINE = 64 / sizeof(C);
  for (int r = 0; r < R; ++r)
    for (long i = 0; i < W * LANES; i += LINE) __builtin_prefetch(c + r * c_row + i, 1);
  __m512 sums[R][W];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < W; ++w)
      sums[r][w] = start ? _mm512_maskz_loadu_ps(w + 1 < W ? 0xffff : last, start + r * start_row + w * LANES) : _mm512_setzero_ps();
#pragma GCC unroll 2
  for (long p = 0; p < pairs; ++p, a += left.step, b += W * BOTH) {
    __m512bh right[W];
    for (int w = 0; w < W; ++w) right[w] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + w * BOTH));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      int pair;
      std::memcpy(&pair, a + r / BLOCK * left.block + r % BLOCK * left.row, sizeof pair);
      const auto row = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      for (int w = 0; w < W; ++w) sums[r][w] = _mm512_dpbf16_ps(sums[r][w], row, right[w]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < W; ++w) store(c + r * c_row + w * LANES, w + 1 < W ? 0xffff : last, sums[r][w]);
}

template <int R, int W, class C>
inline void rest(const Half *a, const pshim::Left &left, const Half *b, const float *start, long start_row, C *c, long c_row, long rows, long pairs,
                 __mmask16 last) {
  if constexpr (R > 0) {
    if (rows == R) return tile<R, W>(a, left, b, start, start_row, c, c_row, pairs, last);
    rest<R - 1, W>(a, left, b, start, start_row, c, c_row, rows, pairs, last);
  }
}

// Meanwhile as many numbers behind b, which the next call reads, are fetched into the second cache. With one vector a column more rows are needed
// to keep the products busy.
template <int W, class C>
inline void panel(const Half *a, const pshim::Left &left, const Half *b, const float *start, long start_row, C *c, long c_row, long rows,
                  long pairs, __mmask16 last) {
  constexpr long LINE = 32, R = W == 1 ? 2 * BLOCK : BLOCK;
  const Half *next = b + pairs * W * BOTH;
  const long blocks = (rows + R - 1) / R, lines = (pairs * W * BOTH / LINE + blocks - 1) / blocks;
  for (long r = 0; r < rows; r += R, a += R / BLOCK * left.block, c += R * c_row) {
    for (long i = 0; i < lines; ++i, next += LINE) __builtin_prefetch(next, 0, 2);
    const auto *from = start ? start + r * start_row : nullptr;
    if (rows - r >= R)
      tile<R, W>(a, left, b, from, start_row, c, c_row, pairs, last);
    else
      rest<R - 1, W>(a, left, b, from, start_row, c, c_row, rows - r, pairs, last);
  }
}

template <class C>
void multiply(const Half *a, const pshim::Left &left, const Half *b, const float *start, long start_row, C *c, long c_row, long rows,
              long columns, long depth) {
  const long pairs = (depth + 1) / 2;
  for (long j = 0; j < columns; j += PANEL) {
    const long width = std::min(PANEL, padded(columns - j));
    const auto last = first(std::min(LANES, columns - j - width + LANES));
    const auto of = width == PANEL ? panel<3, C> : width == 2 * LANES ? panel<2, C> : panel<1, C>;
    of(a, left, b, start ? start + j : nullptr, start_row, c + j, c_row, rows, pairs, last);
    b += pairs * 2 * width;
  }
}

void sums(const Half *lefts, float *out, long rows, long columns) {
  const long pairs = (rows + 1) / 2;
  const auto ones = reinterpret_cast<__m256bh>(_mm256_set1_epi32(0x3f803f80));
  for (long j = 0; j < columns; j += BLOCK, lefts += pairs * 2 * BLOCK) {
    auto sum = _mm256_setzero_ps();
    for (long p = 0; p < pairs; ++p)
      sum = _mm256_dpbf16_ps(sum, reinterpret_cast<__m256bh>(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(lefts + p * 2 * BLOCK))), ones);
    _mm256_mask_storeu_ps(out + j, first(std::min(BLOCK, columns - j)), sum);
  }
}
#include "winograd_kernels.h"

// Numbers of one tile and of the next, rounded, in pairs.
inline __m512i paired(Vec a, Vec b) {
  const auto bits = [](Vec v) { return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v))); };
  return _mm512_or_si512(bits(a), _mm512_slli_epi32(bits(b), 16));
}

void winograd_pictures_in_pairs(const Half *x, Half *v, long step, const Conv3Shape &conv, long from, long to, const Half *nothing) {
  const long pairs = (to - from + 1) / 2;
  for (long t = from; t < to; t += 2) {
    const long next = std::min(t + 1, to - 1);
    const Patch<4, Half> above(Tile(conv, t), conv, x, conv.inputs, 1, nothing), below(Tile(conv, next), conv, x, conv.inputs, 1, nothing);
    along(conv.inputs, PANEL, (t - from) / 2, pairs, [&](long c, long place) {
      Vec a[16], b[16] = {};
      inwards(above, c, a);
      if (next > t) inwards(below, c, b);
      for (int k = 0; k < 16; ++k) _mm512_storeu_si512(v + k * step + 2 * place, paired(a[k], b[k]));
    });
  }
}

void winograd_slopes_in_pairs(const Half *g, Half *z, long step, const Conv3Shape &conv, long from, long to, long first, long last,
                              const Half *nothing) {
  const long pairs = (to - from + 1) / 2;
  for (long t = from; t < to; t += 2) {
    const long next = std::min(t + 1, to - 1);
    const Patch<2, Half> above(Tile(conv, t), conv, g, conv.outputs, 0, nothing), below(Tile(conv, next), conv, g, conv.outputs, 0, nothing);
    for (long o = 0; o < last - first; o += LANES) {
      Vec a[16], b[16] = {};
      outwards(above, first + o, a);
      if (next > t) outwards(below, first + o, b);
      for (int k = 0; k < 16; ++k)
        in_blocks(z + k * step + o * 2 * pairs + (t - from) * BLOCK, paired(a[k], b[k]), pairs, true);
    }
  }
}
} // namespace

namespace pshim {
extern const Bf16Kernels kernels_bf16 = {panels,
                                         panels_of_rows,
                                         lefts,
                                         multiply<Half>,
                                         multiply<float>,
                                         sums,
                                         winograd_pictures<Half>,
                                         winograd_pictures_in_pairs,
                                         winograd_slopes_in_pairs,
                                         winograd_out<Half>,
                                         PANEL,
                                         LANES,
                                         BLOCK};
} // namespace pshim
#else
namespace pshim {
extern const Bf16Kernels kernels_bf16 = {};
} // namespace pshim
#endif
