// The bodies of `kernels.h`. PSHIM_KERNELS names the table, PSHIM_LANES the floats of one vector; the loops are plain C++ that the
// compiler turns into the instructions it was told to use, so every instruction set runs the same source.
#include "kernels.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace {
constexpr long LANES = PSHIM_LANES;
typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));

inline Vec load(const float *p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float *p, Vec v) { std::memcpy(p, &v, sizeof v); }

using pshim::EXPONENT_BOUND;

// e^x to about one unit in the last place for |x| <= 87, clamped beyond; NaN stays NaN. Range reduction by ln 2 in two parts and the
// polynomial of Cephes' expf (Moshier).
inline float exponential(float x) {
  x = x < -EXPONENT_BOUND ? -EXPONENT_BOUND : x;
  x = x > EXPONENT_BOUND ? EXPONENT_BOUND : x;
  // Adding and subtracting 1.5 2^23 rounds to a whole number.
  const float n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int bits = (static_cast<int>(n) + 127) << 23;
  return p * __builtin_bit_cast(float, bits);
}

// gelu(x) = x s with s = (1 + tanh u) / 2 = 1 / (1 + e^(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float TWO_ROOT = 1.5957691216057308f, CUBIC = 0.044715f;

inline float gate_of(float x) {
  const float u2 = TWO_ROOT * (x + CUBIC * x * x * x);
  return 1.0f / (1.0f + exponential(-u2));
}

// Numbers in f32, or bfloat16 on the way in and out.
inline float wide(float x) { return x; }
inline float wide(unsigned short x) { return __builtin_bit_cast(float, static_cast<unsigned>(x) << 16); }
inline void put(float *y, float x) { *y = x; }
// To the nearest, ties to even.
inline void put(unsigned short *y, float x) {
  const unsigned bits = __builtin_bit_cast(unsigned, x);
  const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  // Rounding must not carry a NaN's bits over into infinity or zero.
  *y = x == x ? rounded : 0x7fc0u;
}

template <class T> void gelu(const T *x, T *y, long n) {
#pragma omp simd
  for (long i = 0; i < n; ++i) {
    const float v = wide(x[i]);
    put(y + i, v * gate_of(v));
  }
}

template <class T> void gelu_backward(const T *g, const T *x, T *dx, long n) {
#pragma omp simd
  for (long i = 0; i < n; ++i) {
    const float v = wide(x[i]), s = gate_of(v);
    const float slope = TWO_ROOT * (1.0f + 3.0f * CUBIC * v * v);
    put(dx + i, wide(g[i]) * (s + v * s * (1.0f - s) * slope));
  }
}

void adaln(const float *x, const float *shift, const float *scale, float *y, float *mean, float *rstd, long tokens, long width, float eps) {
  for (long t = 0; t < tokens; ++t, x += width, y += width) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long d = 0; d < width; ++d) sum += x[d];
    const float m = sum / width;
    // The second pass reads from the cache, and its differences lose nothing to cancellation.
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (long d = 0; d < width; ++d) squares += (x[d] - m) * (x[d] - m);
    const float r = 1.0f / std::sqrt(squares / width + eps);
    mean[t] = m;
    rstd[t] = r;
#pragma omp simd
    for (long d = 0; d < width; ++d) y[d] = (x[d] - m) * r * (1.0f + scale[d]) + shift[d];
  }
}

void adaln_backward(const float *g, const float *x, const float *scale, const float *mean, const float *rstd, float *dx, float *dshift,
                    float *dscale, long tokens, long width) {
  std::fill(dshift, dshift + width, 0.0f);
  std::fill(dscale, dscale + width, 0.0f);
  for (long t = 0; t < tokens; ++t, g += width, x += width, dx += width) {
    const float m = mean[t], r = rstd[t];
    float sum = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : sum, along)
    for (long d = 0; d < width; ++d) {
      const float n = (x[d] - m) * r, dn = g[d] * (1.0f + scale[d]);
      dshift[d] += g[d];
      dscale[d] += g[d] * n;
      sum += dn;
      along += dn * n;
    }
    sum /= width;
    along /= width;
#pragma omp simd
    for (long d = 0; d < width; ++d) dx[d] = r * (g[d] * (1.0f + scale[d]) - sum - (x[d] - m) * r * along);
  }
}

void gated(const float *x, const float *gate, const float *h, float *y, long tokens, long width) {
  for (long t = 0; t < tokens; ++t, x += width, h += width, y += width) {
#pragma omp simd
    for (long d = 0; d < width; ++d) y[d] = x[d] + gate[d] * h[d];
  }
}

void gated_backward(const float *g, const float *gate, const float *h, float *dh, float *dgate, long tokens, long width) {
  std::fill(dgate, dgate + width, 0.0f);
  for (long t = 0; t < tokens; ++t, g += width, h += width, dh += width) {
#pragma omp simd
    for (long d = 0; d < width; ++d) {
      dgate[d] += g[d] * h[d];
      dh[d] = g[d] * gate[d];
    }
  }
}

inline float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }

// ln p of rows of coins, softplus(l) = max(l, 0) + ln(1 + u) and logistic(l) by one exponential u = e^-|l|. ln(1 + u) = 2 atanh(s) with
// s = u / (2 + u) <= 1/3, whose odd series up to s^15 leaves less than rounding does.
template <bool SLOPE> inline void bernoulli_of(const float *x, const float *l, float *slope, float *sums, long rows, long width) {
  for (long i = 0; i < rows; ++i, x += width, l += width, slope += SLOPE ? width : 0) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long d = 0; d < width; ++d) {
      const float u = exponential(-std::fabs(l[d])), s = u / (2.0f + u), s2 = s * s;
      float p = 1.0f / 15.0f;
      p = p * s2 + 1.0f / 13.0f;
      p = p * s2 + 1.0f / 11.0f;
      p = p * s2 + 1.0f / 9.0f;
      p = p * s2 + 1.0f / 7.0f;
      p = p * s2 + 1.0f / 5.0f;
      p = p * s2 + 1.0f / 3.0f;
      p = p * s2 + 1.0f;
      sum += x[d] * l[d] - ((l[d] > 0.0f ? l[d] : 0.0f) + 2.0f * s * p);
      if (SLOPE) slope[d] = x[d] - (l[d] > 0.0f ? 1.0f : u) / (1.0f + u);
    }
    sums[i] = sum;
  }
}

void bernoulli(const float *x, const float *logits, float *slope, float *sums, long rows, long width) {
  (slope ? bernoulli_of<true> : bernoulli_of<false>)(x, logits, slope, sums, rows, width);
}

inline float growing(float x) { return x > EXPONENT_BOUND ? __builtin_inff() : exponential(x); }

void gaussian_kl(const float *mean, long mean_row, const float *logvar, long log_row, float *variance, float *sums, long rows, long width) {
  for (long i = 0; i < rows; ++i, mean += mean_row, logvar += log_row, variance += width) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long d = 0; d < width; ++d) {
      variance[d] = growing(logvar[d]);
      sum += mean[d] * mean[d] + variance[d] - 1.0f - logvar[d];
    }
    sums[i] = 0.5f * sum;
  }
}

void gaussian_at(const float *mean, long mean_row, const float *logvar, long log_row, const float *eps, float *spread, float *z, long rows,
                 long width) {
  for (long i = 0; i < rows; ++i, mean += mean_row, logvar += log_row, eps += width, spread += width, z += width) {
#pragma omp simd
    for (long d = 0; d < width; ++d) {
      spread[d] = growing(0.5f * logvar[d]) * eps[d];
      z[d] = mean[d] + spread[d];
    }
  }
}

// Per channel, the sum over pixels of what `term` makes of a value; four rows at a time spare the sums' way through the cache.
template <class F> inline void channel_sums(const float *x, long pixels, long row, long width, float *sums, F term) {
  std::fill(sums, sums + width, 0.0f);
  long p = 0;
  for (; p + 4 <= pixels; p += 4) {
    const float *a = x + p * row, *b = a + row, *c = b + row, *d = c + row;
#pragma omp simd
    for (long i = 0; i < width; ++i) sums[i] += (term(a[i], i) + term(b[i], i)) + (term(c[i], i) + term(d[i], i));
  }
  for (; p < pixels; ++p) {
    const float *a = x + p * row;
#pragma omp simd
    for (long i = 0; i < width; ++i) sums[i] += term(a[i], i);
  }
}

inline float total(const float *x, long n) {
  float sum = 0.0f;
  for (long i = 0; i < n; ++i) sum += x[i];
  return sum;
}

template <bool SILU>
inline void normalised(const float *x, const float *factor, const float *offset, float *y, long pixels, long row, long width) {
  for (long p = 0; p < pixels; ++p, x += row, y += row) {
#pragma omp simd
    for (long i = 0; i < width; ++i) {
      const float z = x[i] * factor[i] + offset[i];
      y[i] = SILU ? z * logistic(z) : z;
    }
  }
}

void group_norm(const float *x, const float *gain, const float *offset, float *y, float *mean, float *rstd, long pixels, long row, long width,
                long groups, float eps, bool silu, float *scratch) {
  const long each = width / groups;
  const float share = 1.0f / (each * pixels);
  float *sums = scratch, *centre = sums + width, *factor = centre + width, *moved = factor + width;
  channel_sums(x, pixels, row, width, sums, [](float v, long) { return v; });
  for (long k = 0; k < groups; ++k) {
    mean[k] = total(sums + k * each, each) * share;
    std::fill(centre + k * each, centre + (k + 1) * each, mean[k]);
  }
  // The second pass reads from the cache, and its differences lose nothing to cancellation.
  channel_sums(x, pixels, row, width, sums, [=](float v, long i) { return (v - centre[i]) * (v - centre[i]); });
  for (long k = 0; k < groups; ++k) {
    rstd[k] = 1.0f / std::sqrt(total(sums + k * each, each) * share + eps);
    for (long i = k * each; i < (k + 1) * each; ++i) {
      factor[i] = gain[i] * rstd[k];
      moved[i] = offset[i] - mean[k] * factor[i];
    }
  }
  silu ? normalised<true>(x, factor, moved, y, pixels, row, width) : normalised<false>(x, factor, moved, y, pixels, row, width);
}

// dx = g f'(z), doffset = its sum over pixels, dgain = the sum of its product with n.
template <bool SILU>
inline void slopes(const float *g, const float *x, const float *gain, const float *offset, const float *centre, const float *inverse, float *dx,
                   float *dgain, float *doffset, long pixels, long row, long width) {
  for (long p = 0; p < pixels; ++p, g += row, x += row, dx += row) {
#pragma omp simd
    for (long i = 0; i < width; ++i) {
      const float n = (x[i] - centre[i]) * inverse[i], z = n * gain[i] + offset[i];
      const float s = SILU ? logistic(z) : 1.0f;
      const float d = SILU ? g[i] * (s + z * s * (1.0f - s)) : g[i];
      doffset[i] += d;
      dgain[i] += d * n;
      dx[i] = d;
    }
  }
}

void group_norm_backward(const float *g, const float *x, const float *gain, const float *offset, const float *mean, const float *rstd,
                         float *dx, float *dgain, float *doffset, long pixels, long row, long width, long groups, bool silu,
                         float *scratch) {
  const long each = width / groups;
  const float share = 1.0f / (each * pixels);
  float *centre = scratch, *inverse = centre + width, *flat = inverse + width, *along = flat + width;
  for (long k = 0; k < groups; ++k) {
    std::fill(centre + k * each, centre + (k + 1) * each, mean[k]);
    std::fill(inverse + k * each, inverse + (k + 1) * each, rstd[k]);
  }
  std::fill(dgain, dgain + width, 0.0f);
  std::fill(doffset, doffset + width, 0.0f);
  silu ? slopes<true>(g, x, gain, offset, centre, inverse, dx, dgain, doffset, pixels, row, width)
       : slopes<false>(g, x, gain, offset, centre, inverse, dx, dgain, doffset, pixels, row, width);
  for (long k = 0; k < groups; ++k) {
    float level = 0.0f, tilt = 0.0f;
    for (long i = k * each; i < (k + 1) * each; ++i) {
      level += gain[i] * doffset[i];
      tilt += gain[i] * dgain[i];
    }
    std::fill(flat + k * each, flat + (k + 1) * each, level * share);
    std::fill(along + k * each, along + (k + 1) * each, tilt * share);
  }
  for (long p = 0; p < pixels; ++p, x += row, dx += row) {
#pragma omp simd
    for (long i = 0; i < width; ++i)
      dx[i] = inverse[i] * (dx[i] * gain[i] - flat[i] - (x[i] - centre[i]) * inverse[i] * along[i]);
  }
}

void widen(const unsigned short *x, long row, float *y, long rows, long width) {
  for (; rows > 0; --rows, x += row, y += width)
#pragma omp simd
    for (long i = 0; i < width; ++i) y[i] = wide(x[i]);
}

void narrow(const float *x, unsigned short *y, long row, long rows, long width) {
  for (; rows > 0; --rows, x += width, y += row)
#pragma omp simd
    for (long i = 0; i < width; ++i) put(y + i, x[i]);
}

// Where the numbers of two rows D apart belong in a transpose, one stage of it: `low` for the row above, else for the one below.
template <int D, bool low, size_t... J> constexpr auto places(std::index_sequence<J...>) {
  typedef int Places __attribute__((vector_size(LANES * sizeof(int))));
  return Places{static_cast<int>(low ? (J & D ? J - D + LANES : J) : (J & D ? J + LANES : J + D))...};
}

template <int D> inline void exchange(Vec *rows) {
  constexpr auto lanes = std::make_index_sequence<LANES>();
  for (int r = 0; r < LANES; ++r) {
    if (r & D) continue;
    const Vec above = rows[r], below = rows[r + D];
    rows[r] = __builtin_shuffle(above, below, places<D, true>(lanes));
    rows[r + D] = __builtin_shuffle(above, below, places<D, false>(lanes));
  }
  if constexpr (2 * D < LANES) exchange<2 * D>(rows);
}

// to [columns, rows] = from [rows, columns], transposed.
inline void turn(const float *from, long from_row, float *to, long to_row, long rows, long columns) {
  for (long r = 0; r < rows; r += LANES)
    for (long c = 0; c < columns; c += LANES) {
      const float *block = from + r * from_row + c;
      float *out = to + c * to_row + r;
      const long high = std::min(LANES, rows - r), wide = std::min(LANES, columns - c);
      if (high == LANES && wide == LANES) {
        Vec v[LANES];
        for (int i = 0; i < LANES; ++i) v[i] = load(block + i * from_row);
        exchange<1>(v);
        for (int i = 0; i < LANES; ++i) store(out + i * to_row, v[i]);
        continue;
      }
      for (long i = 0; i < high; ++i)
        for (long j = 0; j < wide; ++j) out[j * to_row + i] = block[i * from_row + j];
    }
}

inline long padded(long n) { return (n + LANES - 1) / LANES * LANES; }

// c [R, W LANES] = sum over p of a[r, p] b[p, :], and `start` where there is one. An element's sum runs over p in order whatever the tile.
template <int R, int W>
inline void tile(const float *a, long a_row, long a_step, const float *b, long b_row, const float *start, long start_row, float *c, long c_row,
                 long depth) {
  // Before they are written, lines of c are fetched: while the sums run.
  for (int r = 0; r < R; ++r)
    for (const long i : {0L, W * LANES - 1}) __builtin_prefetch(c + r * c_row + i, 1);
  Vec sums[R][W] = {};
  // Where a core is shared with another thread, every instruction that is not a product costs: a tenth of the rate, rolled up.
#pragma GCC unroll 4
  for (long p = 0; p < depth; ++p, a += a_step, b += b_row) {
    Vec right[W];
    for (int w = 0; w < W; ++w) right[w] = load(b + w * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const float left = a[r * a_row];
      for (int w = 0; w < W; ++w) sums[r][w] += left * right[w];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < W; ++w) {
      const Vec made = start ? sums[r][w] + load(start + r * start_row + w * LANES) : sums[r][w];
      store(c + r * c_row + w * LANES, made);
    }
}

// Rows of a tile of W vectors whose sums leave registers for W vectors of b and one number of a. Three vectors by four rows take the fewest
// instructions a product of all tiles of sixteen registers; eight rows, where registers allow, read a column of a transpose by half a cache line.
constexpr int rows_of_tile(int w) { return LANES >= 16 || w == 1 ? 8 : w == 2 ? 6 : 4; }

template <int R, int W>
inline void rest(const float *a, long a_row, long a_step, const float *b, long b_row, const float *start, long start_row, float *c, long c_row,
                 long rows, long depth) {
  if constexpr (R > 0) {
    if (rows == R) return tile<R, W>(a, a_row, a_step, b, b_row, start, start_row, c, c_row, depth);
    rest<R - 1, W>(a, a_row, a_step, b, b_row, start, start_row, c, c_row, rows, depth);
  }
}

// Meanwhile `ahead` numbers behind b, which the next call reads, are fetched into the second cache.
template <int W>
inline void column(const float *a, long a_row, long a_step, const float *b, long b_row, const float *start, long start_row, float *c, long c_row,
                   long rows, long depth, long ahead = 0) {
  constexpr int R = rows_of_tile(W);
  const auto from = [&](long r) { return start ? start + r * start_row : start; };
  const float *next = b + depth * b_row;
  constexpr long LINE = 16;
  const long lines = (ahead * R + rows * LINE - 1) / (rows * LINE);
  long r = 0;
  for (; r + R <= rows; r += R) {
    for (long i = 0; i < lines; ++i, next += LINE) __builtin_prefetch(next, 0, 2);
    tile<R, W>(a + r * a_row, a_row, a_step, b, b_row, from(r), start_row, c + r * c_row, c_row, depth);
  }
  rest<R - 1, W>(a + r * a_row, a_row, a_step, b, b_row, from(r), start_row, c + r * c_row, c_row, rows - r, depth);
}

// c [rows, columns] = a b, columns a multiple of LANES; element (r, p) of a is a[r a_row + p a_step], so a may be a transpose.
inline void product(const float *a, long a_row, long a_step, const float *b, long b_row, float *c, long c_row, long rows, long columns,
                    long depth) {
  long j = 0;
  for (; j + 2 * LANES <= columns; j += 2 * LANES) column<2>(a, a_row, a_step, b + j, b_row, nullptr, 0, c + j, c_row, rows, depth);
  for (; j < columns; j += LANES) column<1>(a, a_row, a_step, b + j, b_row, nullptr, 0, c + j, c_row, rows, depth);
}

// Columns of a panel, and numbers of each that are summed before the next panel's turn: a panel's part then stays in the first cache.
constexpr long PANEL = 3 * LANES, PART = 256;

// The right side of a product, cut into panels of three vectors, the last of fewer and filled up with zeros.
template <class F> inline void panels_of(long columns, const F &panel) {
  for (long j = 0; j < columns; j += PANEL) panel(j, std::min(PANEL, padded(columns - j)));
}

void panels(const float *w, long row, long step, float *out, long columns, long depth) {
  if (step == 1) {
    panels_of(columns, [&](long j, long width) { turn(w + j * row, row, out + j * depth, width, std::min(width, columns - j), depth); });
  } else {
    // A few lines of w at a time, each read from end to end.
    for (long p = 0; p < depth; p += 4)
      for (long j = 0; j < columns; j += PANEL) {
        const long width = std::min(PANEL, padded(columns - j)), last = std::min(p + 4, depth);
        for (long q = p; q < last; ++q) {
          const float *from = w + j + q * step;
          float *to = out + j * depth + q * width;
          if (columns - j >= PANEL) {
            for (int v = 0; v < 3; ++v) store(to + v * LANES, load(from + v * LANES));
            // What this panel is given and reads with the next lines.
            __builtin_prefetch(to + 8 * PANEL, 1);
            __builtin_prefetch(from + 4 * step);
          } else
            std::copy(from, from + columns - j, to);
        }
      }
  }
  const long whole = columns / LANES * LANES, first = whole / PANEL * PANEL, width = padded(columns - first);
  for (long p = 0; columns > whole && p < depth; ++p)
    std::fill(out + first * depth + p * width + columns - first, out + first * depth + (p + 1) * width, 0.0f);
}

template <int W>
inline void panel(const float *a, long a_row, long a_step, const float *b, const float *start, long start_row, float *c, long c_row, long rows,
                  long depth) {
  const long parts = (depth + PART - 1) / PART;
  for (long i = 0; i < parts; ++i) {
    const long from = depth * i / parts, to = depth * (i + 1) / parts;
    const bool first = i == 0;
    column<W>(a + from * a_step, a_row, a_step, b + from * W * LANES, W * LANES, first ? start : c, first ? start_row : c_row, c, c_row, rows,
              to - from, (to - from) * W * LANES);
  }
}

void multiply(const float *a, long a_row, long a_step, const float *b, const float *start, long start_row, float *c, long c_row, long rows,
              long columns, long depth) {
  panels_of(columns, [&](long j, long width) {
    const auto one = [&](const float *a, const float *start, long start_row, float *c, long c_row, long rows) {
      const auto of = width == PANEL ? panel<3> : width == 2 * LANES ? panel<2> : panel<1>;
      of(a, a_row, a_step, b, start, start_row, c, c_row, rows, depth);
    };
    if (const long real = columns - j; real >= width)
      one(a, start ? start + j : start, start_row, c + j, c_row, rows);
    else {
      // Fewer columns than whole vectors: beside, then copied.
      constexpr long SOME = 8;
      float made[SOME * PANEL], begin[SOME * PANEL] = {};
      for (long r = 0; r < rows; r += SOME) {
        const long some = std::min(SOME, rows - r);
        for (long k = 0; start && k < some; ++k) std::memcpy(begin + k * width, start + (r + k) * start_row + j, real * sizeof(float));
        one(a + r * a_row, begin, width, made, width, some);
        for (long k = 0; k < some; ++k) std::memcpy(c + (r + k) * c_row + j, made + k * width, real * sizeof(float));
      }
    }
    b += depth * width;
  });
}

// Rows of a head, each padded with zeros to whole vectors.
inline void rows_of(const float *x, long row, float *out, long tokens, long head, long wide) {
  for (long t = 0; t < tokens; ++t) {
    std::memcpy(out + t * wide, x + t * row, head * sizeof(float));
    std::fill(out + t * wide + head, out + (t + 1) * wide, 0.0f);
  }
}

// The transpose [head, tokens], padded likewise.
inline void columns_of(const float *x, long row, float *out, long tokens, long head, long span) {
  turn(x, row, out, span, tokens, head);
  for (long d = 0; d < head; ++d) std::fill(out + d * span + tokens, out + (d + 1) * span, 0.0f);
}

// p [T, T padded] = softmax(q k^T scale) by rows; `kt` holds the transposed keys. The padding stays zero.
inline void weights(const float *q, long row, const float *kt, float *p, long tokens, long head, long span, float scale) {
  product(q, row, 1, kt, span, p, span, tokens, span, head);
  for (long i = 0; i < tokens; ++i) {
    float *s = p + i * span, top = s[0], sum = 0.0f;
#pragma omp simd reduction(max : top)
    for (long j = 0; j < tokens; ++j) top = s[j] > top ? s[j] : top;
#pragma omp simd reduction(+ : sum)
    for (long j = 0; j < tokens; ++j) {
      s[j] = exponential((s[j] - top) * scale);
      sum += s[j];
    }
    const float share = 1.0f / sum;
#pragma omp simd
    for (long j = 0; j < tokens; ++j) s[j] *= share;
  }
}

long attention_scratch(long tokens, long head) {
  const long wide = padded(head), span = padded(tokens);
  return 2 * tokens * span + head * span + 3 * tokens * wide;
}

void attention(const float *q, const float *k, const float *v, long row, float *out, long out_row, long tokens, long head, float scale,
               float *scratch) {
  const long wide = padded(head), span = padded(tokens);
  float *p = scratch, *kt = p + tokens * span, *values = kt + head * span, *mixed = values + tokens * wide;
  columns_of(k, row, kt, tokens, head, span);
  rows_of(v, row, values, tokens, head, wide);
  weights(q, row, kt, p, tokens, head, span, scale);
  product(p, span, 1, values, wide, mixed, wide, tokens, wide, tokens);
  for (long t = 0; t < tokens; ++t) std::memcpy(out + t * out_row, mixed + t * wide, head * sizeof(float));
}

void attention_backward(const float *g, long g_row, const float *q, const float *k, const float *v, long row, float *dq, float *dk, float *dv,
                        long tokens, long head, float scale, float *scratch) {
  const long wide = padded(head), span = padded(tokens);
  float *p = scratch, *ds = p + tokens * span, *turned = ds + tokens * span, *side = turned + head * span;
  float *grads = side + tokens * wide, *out = grads + tokens * wide;
  const auto write = [&](float *to) {
    for (long t = 0; t < tokens; ++t) std::memcpy(to + t * row, out + t * wide, head * sizeof(float));
  };
  columns_of(k, row, turned, tokens, head, span);
  weights(q, row, turned, p, tokens, head, span, scale);
  rows_of(g, g_row, grads, tokens, head, wide);
  // dv = p^T g
  product(p, 1, span, grads, wide, out, wide, tokens, wide, tokens);
  write(dv);
  // ds = p (dp - sum over keys of p dp) scale, dp = g v^T
  columns_of(v, row, turned, tokens, head, span);
  product(grads, wide, 1, turned, span, ds, span, tokens, span, head);
  for (long i = 0; i < tokens; ++i) {
    const float *w = p + i * span;
    float *s = ds + i * span, sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long j = 0; j < tokens; ++j) sum += w[j] * s[j];
#pragma omp simd
    for (long j = 0; j < tokens; ++j) s[j] = w[j] * (s[j] - sum) * scale;
  }
  // dq = ds k, dk = ds^T q
  rows_of(k, row, side, tokens, head, wide);
  product(ds, span, 1, side, wide, out, wide, tokens, wide, tokens);
  write(dq);
  rows_of(q, row, side, tokens, head, wide);
  product(ds, 1, span, side, wide, out, wide, tokens, wide, tokens);
  write(dk);
}

void strassen_rows(const float *x, float *s, long pairs, long half) {
  const long step = pairs * half;
  for (long r = 0; r < pairs; ++r, x += 4 * half, s += half) {
    const float *a11 = x, *a12 = x + half, *a21 = x + 2 * half, *a22 = x + 3 * half;
    float *s1 = s, *s2 = s + step, *s3 = s + 2 * step, *s4 = s + 3 * step;
#pragma omp simd
    for (long i = 0; i < half; ++i) {
      const float first = a21[i] + a22[i], second = first - a11[i];
      s1[i] = first;
      s2[i] = second;
      s3[i] = a11[i] - a21[i];
      s4[i] = a12[i] - second;
    }
  }
}

void strassen_join(const float *v, const float *moved, float *u, float *c, long c_row, long pairs, long half) {
  for (long r = 0; r < pairs; ++r, v += half, u += half, c += c_row) {
#pragma omp simd
    for (long i = 0; i < half; ++i) {
      const float more = v[i] + moved[i];
      u[i] += more;
      c[i] += more;
    }
  }
}

float sum(const float *x, long n) {
  float all = 0.0f;
#pragma omp simd reduction(+ : all)
  for (long i = 0; i < n; ++i) all += x[i];
  return all;
}

#include "conv3_kernels.h"
} // namespace

namespace pshim {
extern const Kernels PSHIM_KERNELS = {gelu<float>,
                                      gelu_backward<float>,
                                      gelu<unsigned short>,
                                      gelu_backward<unsigned short>,
                                      adaln,
                                      adaln_backward,
                                      gated,
                                      gated_backward,
                                      group_norm,
                                      group_norm_backward,
                                      widen,
                                      narrow,
                                      attention,
                                      attention_backward,
                                      attention_scratch,
                                      conv3_weights,
                                      CONV3_OUTPUTS,
                                      winograd_weights,
                                      winograd_slopes_of_weights,
                                      winograd_pictures<float>,
                                      winograd_slopes,
                                      winograd_out<float>,
                                      panels,
                                      multiply,
                                      turn,
                                      strassen_rows,
                                      strassen_join,
                                      sum,
                                      bernoulli,
                                      gaussian_kl,
                                      gaussian_at,
                                      PANEL,
                                      LANES};
} // namespace pshim
