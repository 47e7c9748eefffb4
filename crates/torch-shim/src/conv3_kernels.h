// The part of `kernels.cpp` that convolutions of kernel 3 are made of: slopes of weights where they lie.
#include "winograd_kernels.h"

// Outputs whose slopes by three taps of one vector of inputs fill the registers.
constexpr long CONV3_OUTPUTS = LANES == 16 ? 8 : 4;

// Slopes of N outputs by three neighbouring taps of one vector of inputs, over `count` rows of g and of the x beside them. The sum of these
// rows is taken apart from what dw holds: sums of sums lose less to rounding than one long chain.
template <long N> void taps(const float *g, const float *x, float *dw, const Conv3Shape &conv, long count) {
  const long c = conv.inputs, columns = conv.columns(), step = conv.stride * c;
  // Columns [1, inner) have all three taps inside the picture.
  const long inner = std::max(1L, (conv.width - 2) / conv.stride + 1);
  Vec sum[N][3] = {};
  const auto edge = [&](const float *slopes, long column) {
    for (long tap = 0; tap < 3; ++tap) {
      const long at = column * conv.stride + tap - 1;
      if (at < 0 || at >= conv.width) continue;
      const Vec v = load(x + at * c);
      for (long o = 0; o < N; ++o) sum[o][tap] += slopes[o] * v;
    }
  };
  for (long row = 0; row < count; ++row, g += columns * conv.outputs, x += conv.stride * conv.width * c) {
    edge(g, 0);
    const float *slopes = g + conv.outputs, *from = x + step - c;
    for (long column = 1; column < inner; ++column, slopes += conv.outputs, from += step) {
      const Vec left = load(from), middle = load(from + c), right = load(from + 2 * c);
#pragma GCC unroll 8
      for (long o = 0; o < N; ++o) {
        sum[o][0] += slopes[o] * left;
        sum[o][1] += slopes[o] * middle;
        sum[o][2] += slopes[o] * right;
      }
    }
    for (long column = inner; column < columns; ++column, slopes += conv.outputs) edge(slopes, column);
  }
  for (long o = 0; o < N; ++o)
    for (long tap = 0; tap < 3; ++tap) {
      float *to = dw + o * 9 * c + tap * c;
      store(to, load(to) + sum[o][tap]);
    }
}

void conv3_weights(const float *g, const float *x, float *dw, const Conv3Shape &conv, long tap, long from, long to, long first, long last) {
  // Row r of g meets row stride r + tap - 1 of x, where there is one.
  if (conv.height < tap) return;
  from = std::max(from, tap == 0 ? 1L : 0L);
  to = std::min(to, (conv.height - tap) / conv.stride + 1);
  if (from >= to) return;
  g += from * conv.columns() * conv.outputs;
  x += (from * conv.stride + tap - 1) * conv.width * conv.inputs;
  dw += tap * 3 * conv.inputs;
  for (long c = 0; c < conv.inputs; c += LANES) {
    long o = first;
    for (; o + CONV3_OUTPUTS <= last; o += CONV3_OUTPUTS) taps<CONV3_OUTPUTS>(g + o, x + c, dw + o * 9 * conv.inputs + c, conv, to - from);
    for (; o < last; ++o) taps<1>(g + o, x + c, dw + o * 9 * conv.inputs + c, conv, to - from);
  }
}

void winograd_weights(const float *w, float *u, long step, long inputs, long panel, long from, long to, long row, long rows, bool turned) {
  for (long o = from; o < to; ++o)
    along(inputs, panel, row + o - from, rows, [&](long c, long place) {
      const float *taps = w + o * 9 * inputs + c;
      Vec half[4][3];
      for (int j = 0; j < 3; ++j) {
        const auto tap = [&](int i) { return load(taps + (turned ? 8 - 3 * i - j : 3 * i + j) * inputs); };
        const Vec first = tap(0), middle = tap(1), last = tap(2), sum = (first + last) * 0.5f;
        half[0][j] = first;
        half[1][j] = sum + middle * 0.5f;
        half[2][j] = sum - middle * 0.5f;
        half[3][j] = last;
      }
      for (int i = 0; i < 4; ++i) {
        const Vec *h = half[i], sum = (h[0] + h[2]) * 0.5f;
        float *out = u + 4 * i * step + place;
        store(out, h[0]);
        store(out + step, sum + h[1] * 0.5f);
        store(out + 2 * step, sum - h[1] * 0.5f);
        store(out + 3 * step, h[2]);
      }
    });
}

void winograd_slopes_of_weights(const float *u, long step, long parts, long apart, float *dw, long inputs, long outputs) {
  for (long o = 0; o < outputs; ++o, u += inputs, dw += 9 * inputs)
    for (long c = 0; c < inputs; c += LANES) {
      const auto sum = [&](int i, int j) {
        const float *from = u + (4 * i + j) * step + c;
        Vec all = load(from);
        for (long p = 1; p < parts; ++p) all += load(from + p * apart);
        return all;
      };
      Vec half[3][4];
      for (int j = 0; j < 4; ++j) {
        const Vec plus = sum(1, j), minus = sum(2, j);
        half[0][j] = sum(0, j) + (plus + minus) * 0.5f;
        half[1][j] = (plus - minus) * 0.5f;
        half[2][j] = sum(3, j) + (plus + minus) * 0.5f;
      }
      for (int i = 0; i < 3; ++i) {
        const Vec *h = half[i], both = (h[1] + h[2]) * 0.5f;
        float *to = dw + 3 * i * inputs + c;
        store(to, h[0] + both);
        store(to + inputs, (h[1] - h[2]) * 0.5f);
        store(to + 2 * inputs, h[3] + both);
      }
    }
}

void winograd_slopes(const float *g, float *z, long step, const Conv3Shape &conv, long from, long to, long first, long last,
                     const float *nothing) {
  const long rows = to - from, width = last - first;
  for (long t = 0; t < rows; ++t) {
    const Patch<2, float> patch(Tile(conv, from + t), conv, g, conv.outputs, 0, nothing);
    for (long o = 0; o < width; o += LANES) {
      Vec made[16];
      outwards(patch, first + o, made);
      for (int k = 0; k < 16; ++k) store(z + k * step + t * width + o, made[k]);
    }
  }
}
