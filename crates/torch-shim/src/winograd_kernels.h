// Winograd's four by four numbers of two by two pixels, for pictures of numbers T, floats or bfloat16, that `load` and `store` widen and round.
using pshim::Conv3Shape;

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
template <int N, class T> struct Patch {
  const T *at[N * N];
  Patch(const Tile &tile, const Conv3Shape &conv, const T *x, long channels, long border, const T *nothing) {
    x += tile.picture * conv.height * conv.width * channels;
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < N; ++j) {
        const long row = tile.row - border + i, column = tile.column - border + j;
        const bool inside = row >= 0 && row < conv.height && column >= 0 && column < conv.width;
        at[i * N + j] = inside ? x + (row * conv.width + column) * channels : nothing;
      }
  }
};

// B^T x B of a vector of channels.
template <class T> inline void inwards(const Patch<4, T> &patch, long c, Vec made[16]) {
  Vec half[4][4];
  for (int i = 0; i < 4; ++i) {
    Vec row[4];
    for (int j = 0; j < 4; ++j) row[j] = load(patch.at[4 * i + j] + c);
    inward(row, half[i]);
  }
  for (int j = 0; j < 4; ++j) {
    const Vec column[4] = {half[0][j], half[1][j], half[2][j], half[3][j]};
    Vec all[4];
    inward(column, all);
    for (int i = 0; i < 4; ++i) made[4 * i + j] = all[i];
  }
}

// A g A^T of a vector of channels.
template <class T> inline void outwards(const Patch<2, T> &patch, long c, Vec made[16]) {
  Vec half[2][4];
  for (int i = 0; i < 2; ++i) {
    const Vec row[2] = {load(patch.at[2 * i] + c), load(patch.at[2 * i + 1] + c)};
    outward(row, half[i]);
  }
  for (int j = 0; j < 4; ++j) {
    const Vec column[2] = {half[0][j], half[1][j]};
    Vec all[4];
    outward(column, all);
    for (int i = 0; i < 4; ++i) made[4 * i + j] = all[i];
  }
}

// Calls work(c, place) for every vector of `channels`, the place being where it lies in row `row` of `rows` if these are cut into panels.
template <class F> inline void along(long channels, long panel, long row, long rows, const F &work) {
  for (long j = 0; j < channels; j += panel) {
    const long width = std::min(panel, channels - j), place = j * rows + row * width;
    for (long c = 0; c < width; c += LANES) work(j + c, place + c);
  }
}

template <class T>
void winograd_pictures(const T *x, T *v, long step, const Conv3Shape &conv, long from, long to, long panel, const T *nothing) {
  const long rows = to - from;
  for (long t = 0; t < rows; ++t) {
    const Patch<4, T> patch(Tile(conv, from + t), conv, x, conv.inputs, 1, nothing);
    along(conv.inputs, panel, t, rows, [&](long c, long place) {
      Vec made[16];
      inwards(patch, c, made);
      for (int k = 0; k < 16; ++k) store(v + k * step + place, made[k]);
    });
  }
}

template <class T>
void winograd_out(const float *m, long step, const float *bias, T *y, const Conv3Shape &conv, long from, long to, long first, long last) {
  const long rows = to - from, width = last - first;
  for (long t = 0; t < rows; ++t, m += width) {
    const Tile tile(conv, from + t);
    const bool below = tile.row + 1 < conv.height, right = tile.column + 1 < conv.width;
    T *pixel = y + ((tile.picture * conv.height + tile.row) * conv.width + tile.column) * conv.outputs + first;
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
        T *to = pixel + i * conv.width * conv.outputs;
        store(to, start + h[0] + h[1] + h[2]);
        if (right) store(to + conv.outputs, start + h[1] - h[2] - h[3]);
      }
    }
  }
}
