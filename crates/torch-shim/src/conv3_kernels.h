// The part of `kernels.cpp` that convolutions of kernel 3 are made of: slopes of weights where they lie, and Winograd's four by four numbers of
// two by two pixels.
using pshim::Conv3Shape;

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

// Winograd's F(2 x 2, 3 x 3) (Lavin and Gray 2016, arXiv 1509.09308, section 4.1): y = A^T [(G w G^T) (B^T x B)] A, where x is a patch of four
// by four pixels, y the two by two in its middle, and the product between brackets is number by number, of sixteen instead of the thirty-six
// that y takes otherwise.

// B^T v.
inline void inward(const Vec v[4], Vec to[4]) {
  to[0] = v[0] - v[2];
  to[1] = v[1] + v[2];
  to[2] = v[2] - v[1];
  to[3] = v[1] - v[3];
}

// A v, by which slopes of y become slopes of what is between brackets.
inline void outward(const Vec v[2], Vec to[4]) {
  to[0] = v[0];
  to[1] = v[0] + v[1];
  to[2] = v[0] - v[1];
  to[3] = -v[1];
}

// A tile of the list of all tiles: where its picture, and the first pixel that it makes, are.
struct Tile {
  long picture, row, column;
  Tile(const Conv3Shape &conv, long i) {
    const long down = (conv.height + 1) / 2, across = (conv.width + 1) / 2;
    picture = i / (down * across);
    row = 2 * (i / across % down);
    column = 2 * (i % across);
  }
};

// Pixels of a tile's patch of N by N, `nothing` for those outside the picture.
template <int N> struct Patch {
  const float *at[N * N];
  Patch(const Tile &tile, const Conv3Shape &conv, const float *x, long channels, long border, const float *nothing) {
    x += tile.picture * conv.height * conv.width * channels;
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < N; ++j) {
        const long row = tile.row - border + i, column = tile.column - border + j;
        const bool inside = row >= 0 && row < conv.height && column >= 0 && column < conv.width;
        at[i * N + j] = inside ? x + (row * conv.width + column) * channels : nothing;
      }
  }
};

// Calls work(c, place) for every vector of `channels`, the place being where it lies in row `row` of `rows` if these are cut into panels.
template <class F> inline void along(long channels, long panel, long row, long rows, const F &work) {
  for (long j = 0; j < channels; j += panel) {
    const long width = std::min(panel, channels - j), place = j * rows + row * width;
    for (long c = 0; c < width; c += LANES) work(j + c, place + c);
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

void winograd_pictures(const float *x, float *v, long step, const Conv3Shape &conv, long from, long to, long panel, const float *nothing) {
  const long rows = to - from;
  for (long t = 0; t < rows; ++t) {
    const Patch<4> patch(Tile(conv, from + t), conv, x, conv.inputs, 1, nothing);
    along(conv.inputs, panel, t, rows, [&](long c, long place) {
      Vec half[4][4];
      for (int i = 0; i < 4; ++i) {
        Vec row[4];
        for (int j = 0; j < 4; ++j) row[j] = load(patch.at[4 * i + j] + c);
        inward(row, half[i]);
      }
      for (int j = 0; j < 4; ++j) {
        const Vec column[4] = {half[0][j], half[1][j], half[2][j], half[3][j]};
        Vec made[4];
        inward(column, made);
        for (int i = 0; i < 4; ++i) store(v + (4 * i + j) * step + place, made[i]);
      }
    });
  }
}

void winograd_slopes(const float *g, float *z, long step, const Conv3Shape &conv, long from, long to, long first, long last,
                     const float *nothing) {
  const long rows = to - from, width = last - first;
  for (long t = 0; t < rows; ++t) {
    const Patch<2> patch(Tile(conv, from + t), conv, g, conv.outputs, 0, nothing);
    for (long o = 0; o < width; o += LANES) {
      Vec half[2][4];
      for (int i = 0; i < 2; ++i) {
        const Vec row[2] = {load(patch.at[2 * i] + first + o), load(patch.at[2 * i + 1] + first + o)};
        outward(row, half[i]);
      }
      for (int j = 0; j < 4; ++j) {
        const Vec column[2] = {half[0][j], half[1][j]};
        Vec made[4];
        outward(column, made);
        for (int i = 0; i < 4; ++i) store(z + (4 * i + j) * step + t * width + o, made[i]);
      }
    }
  }
}

void winograd_out(const float *m, long step, const float *bias, float *y, const Conv3Shape &conv, long from, long to, long first, long last) {
  const long rows = to - from, width = last - first;
  for (long t = 0; t < rows; ++t, m += width) {
    const Tile tile(conv, from + t);
    const bool below = tile.row + 1 < conv.height, right = tile.column + 1 < conv.width;
    float *pixel = y + ((tile.picture * conv.height + tile.row) * conv.width + tile.column) * conv.outputs + first;
    for (long o = 0; o < width; o += LANES, pixel += LANES) {
      Vec half[2][4];
      for (int j = 0; j < 4; ++j) {
        const auto at = [&](int i) { return load(m + (4 * i + j) * step + o); };
        const Vec plus = at(1), minus = at(2);
        half[0][j] = at(0) + plus + minus;
        half[1][j] = plus - minus - at(3);
      }
      const Vec start = bias ? load(bias + first + o) : Vec{};
      for (int i = 0; i < 2; ++i) {
        if (i > 0 && !below) break;
        const Vec *h = half[i];
        float *to = pixel + i * conv.width * conv.outputs;
        store(to, start + h[0] + h[1] + h[2]);
        if (right) store(to + conv.outputs, start + h[1] - h[2] - h[3]);
      }
    }
  }
}
