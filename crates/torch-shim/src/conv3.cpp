// Convolutions of kernel 3 and padding 1 over channels-last pictures in f32 and bf16, with a backward pass of their own. A second derivative
// runs through libtorch's own operations.
#include "layers.h"

namespace {
using namespace pshim;
using pshim::Conv3Shape;

constexpr auto LAST = at::MemoryFormat::ChannelsLast;

// Winograd's way for stride 1, where products are our own. In bf16 pictures and weights are transformed in f32 and rounded for the products,
// whose sums are transformed back before they are rounded.
namespace winograd {
// Numbers of a patch.
constexpr int64_t PLACES = 16;

int64_t tiles(const Tensor &x) { return x.size(0) * ((x.size(2) + 1) / 2) * ((x.size(3) + 1) / 2); }

// Weights of so many channels in and out leave the last cache.
constexpr int64_t WIDE = 1 << 18;

// Tiles that are worth the transforms of so many weights.
int64_t fewest(const Tensor &w) { return std::max<int64_t>(32, w.size(0) * w.size(1) >> 14); }

// Where products are of a kind of our own.
bool takes(const std::optional<at::ScalarType> &kind, const Tensor &x, const Tensor &w, int64_t stride) {
  const auto lanes = kernels().lanes;
  return kind && stride == 1 && w.size(0) % lanes == 0 && w.size(1) % lanes == 0 && tiles(x) >= fewest(w);
}

// Tiles at a time, of pictures of this many channels: `numbers` of each place.
int64_t some(int64_t numbers, int64_t channels) { return std::clamp<int64_t>(numbers / channels, 16, 128); }

// Sixteen matrices of n numbers at most, `parts` times. They are written and read side by side, and a power of two between them would put all
// sixteen into one set of the first cache.
template <class T> struct Places {
  int64_t step;
  Tensor numbers;
  explicit Places(int64_t n, int64_t parts = 1)
      : step(n + 128 / sizeof(T)), numbers(at::empty({parts * PLACES * step}, sizeof(T) == 2 ? at::kBFloat16 : at::kFloat)) {}
  T *at(int64_t k) const { return static_cast<T *>(numbers.data_ptr()) + k * step; }
};

// What is particular to numbers in f32.
struct Single {
  typedef float T;
  static const Kernels &table() { return kernels(); }
  // The weights [O, 3, 3, C] as sixteen right sides of products in the order of `multiply`: [C, O], or [O, C] of the kernel turned around.
  static Places<T> right(const Tensor &w, bool turned) {
    const auto outputs = w.size(0), inputs = w.size(1), panel = kernels().panel;
    const Places<T> u(inputs * outputs);
    each((outputs + panel - 1) / panel, PLACES * panel * inputs, [&](int64_t a, int64_t b) {
      if (turned)
        return kernels().winograd_weights(in(w), u.at(0), u.step, inputs, panel, a * panel, std::min(b * panel, outputs), a * panel, outputs, true);
      const Places<T> rows(panel * inputs);
      for (; a < b; ++a) {
        const auto from = a * panel, count = std::min(panel, outputs - from);
        kernels().winograd_weights(in(w), rows.at(0), rows.step, inputs, inputs, from, from + count, 0, panel, false);
        for (int64_t k = 0; k < PLACES; ++k)
          kernels().panels(rows.at(k), inputs, 1, u.at(k) + from * inputs, count, inputs);
      }
    });
    return u;
  }
  // m [rows, width] = v [rows, depth] u.
  static void multiply(const T *v, const T *u, float *m, int64_t rows, int64_t width, int64_t depth) {
    kernels().multiply(v, depth, 1, u, nullptr, 0, m, width, rows, width, depth);
  }
  // v of pictures and z of slopes, as right and left sides of products over tiles [a, b).
  static void sides(const Tensor &x, const Tensor &g, const Places<T> &v, const Places<T> &z, const Conv3Shape &conv, int64_t a, int64_t b,
                    int64_t first, int64_t last, const T *nothing) {
    kernels().winograd_pictures(in(x), v.at(0), v.step, conv, a, b, kernels().panel, nothing);
    kernels().winograd_slopes(in(g), z.at(0), z.step, conv, a, b, first, last, nothing);
  }
  // sum [width, inputs] = start + z^T v over so many tiles.
  static void add(const T *z, const T *v, const float *start, float *sum, int64_t width, int64_t inputs, int64_t tiles) {
    kernels().multiply(z, 1, width, v, start, inputs, sum, inputs, width, inputs, tiles);
  }
};

// And to those in bf16, of which pairs lie together: of a depth, or of tiles.
struct Low {
  typedef unsigned short T;
  static const Bf16Kernels &table() { return kernels_bf16; }
  static Places<T> right(const Tensor &w, bool turned) {
    const auto outputs = w.size(0), inputs = w.size(1);
    const Places<float> rows(inputs * outputs);
    const Places<T> u(inputs * outputs);
    each(outputs, PLACES * inputs, [&](int64_t a, int64_t b) {
      kernels().winograd_weights(in(w), rows.at(0), rows.step, inputs, inputs, a, b, a, outputs, turned);
    });
    each(PLACES, inputs * outputs, [&](int64_t a, int64_t b) {
      for (; a < b; ++a)
        if (turned)
          kernels_bf16.panels(rows.at(a), 1, inputs, u.at(a), inputs, outputs);
        else
          kernels_bf16.panels(rows.at(a), inputs, 1, u.at(a), outputs, inputs);
    });
    return u;
  }
  static void multiply(const T *v, const T *u, float *m, int64_t rows, int64_t width, int64_t depth) {
    kernels_bf16.multiply_to_floats(v, Left::rows(depth), u, nullptr, 0, m, width, rows, width, depth);
  }
  static void sides(const Tensor &x, const Tensor &g, const Places<T> &v, const Places<T> &z, const Conv3Shape &conv, int64_t a, int64_t b,
                    int64_t first, int64_t last, const T *nothing) {
    kernels_bf16.winograd_pictures_in_pairs(bits(x), v.at(0), v.step, conv, a, b, nothing);
    kernels_bf16.winograd_slopes_in_pairs(bits(g), z.at(0), z.step, conv, a, b, first, last, nothing);
  }
  static void add(const T *z, const T *v, const float *start, float *sum, int64_t width, int64_t inputs, int64_t tiles) {
    kernels_bf16.multiply_to_floats(z, Left::turned(tiles), v, start, inputs, sum, inputs, width, inputs, tiles);
  }
};

// y [B, O, H, W] of x [B, C, H, W] and the weights, turned around or not.
template <class Kind> void convolve(const Tensor &x, const Tensor &w, bool turned, const Tensor *bias, const Tensor &y) {
  typedef typename Kind::T T;
  const auto u = Kind::right(w, turned);
  const Conv3Shape conv{x.size(2), x.size(3), x.size(1), y.size(1), 1};
  const auto inputs = conv.inputs, outputs = conv.outputs, panel = Kind::table().panel;
  const std::vector<T> nothing(inputs);
  const auto *from = static_cast<const T *>(x.const_data_ptr());
  auto *to = static_cast<T *>(y.mutable_data_ptr());
  // Pictures and products of so many columns stay in the second cache; where weights leave the last one, more tiles pass for each time that
  // they come back.
  const auto block = 2 * panel, some = inputs * outputs >= WIDE ? 64 : winograd::some(4096, inputs);
  pshim::in_turns(tiles(x), pshim::pieces(tiles(x), some), [&](int64_t a, int64_t b) {
    const auto rows = b - a;
    const Places<T> v(rows * inputs);
    const Places<float> m(rows * block);
    Kind::table().winograd_pictures(from, v.at(0), v.step, conv, a, b, inputs, nothing.data());
    for (int64_t first = 0; first < outputs; first += block) {
      const auto last = std::min(first + block, outputs), width = last - first;
      for (int64_t k = 0; k < PLACES; ++k) Kind::multiply(v.at(k), u.at(k) + first * inputs, m.at(k), rows, width, inputs);
      Kind::table().winograd_out(m.at(0), m.step, bias ? in(*bias) : nullptr, to, conv, a, b, first, last);
    }
  });
}

void convolve(const Tensor &x, const Tensor &w, bool turned, const Tensor *bias, const Tensor &y) {
  half(x) ? convolve<Low>(x, w, turned, bias, y) : convolve<Single>(x, w, turned, bias, y);
}

// Slopes of weights w for slopes g of what they made of x: sums over parts of all tiles, which do not depend on threads, then over the parts.
template <class Kind> Tensor weights(const Tensor &g, const Tensor &x, const Tensor &w) {
  typedef typename Kind::T T;
  const Conv3Shape conv{x.size(2), x.size(3), x.size(1), w.size(0), 1};
  const auto inputs = conv.inputs, outputs = conv.outputs, all = tiles(x);
  // What the sums of a block move is paid once for so many tiles, and pictures are turned once a block.
  const auto some = winograd::some(8192, inputs), block = std::min(outputs, std::max<int64_t>(32, 16384 / inputs / 16 * 16));
  const auto blocks = (outputs + block - 1) / block, most = std::max<int64_t>(1, 16 / blocks);
  const auto parts = std::clamp(all / (4 * some), std::min({most, all / 16, int64_t(4)}), most);
  const std::vector<T> nothing(std::max(inputs, outputs));
  const Places<float> du(outputs * inputs, parts);
  pshim::in_turns(parts * blocks, parts * blocks, [&](int64_t i, int64_t) {
    const auto part = i / blocks, first = i % blocks * block, last = std::min(first + block, outputs), width = last - first;
    // Room for a last pair.
    const Places<T> v((some + 1) * inputs), z((some + 1) * width);
    const auto from = all * part / parts, to = all * (part + 1) / parts;
    for (auto a = from; a < to; a += some) {
      const auto b = std::min(a + some, to);
      Kind::sides(x, g, v, z, conv, a, b, first, last, nothing.data());
      for (int64_t k = 0; k < PLACES; ++k) {
        float *sum = du.at(part * PLACES + k) + first * inputs;
        Kind::add(z.at(k), v.at(k), a == from ? nullptr : sum, sum, width, inputs, b - a);
      }
    }
  });
  auto dw = at::empty_like(w);
  each(outputs, PLACES * parts * inputs, [&](int64_t a, int64_t b) {
    kernels().winograd_slopes_of_weights(du.at(0) + a * inputs, du.step, parts, PLACES * du.step, out(dw) + a * 9 * inputs, inputs, b - a);
  });
  return dw;
}

Tensor weights(const Tensor &g, const Tensor &x, const Tensor &w) { return half(x) ? weights<Low>(g, x, w) : weights<Single>(g, x, w); }
} // namespace winograd

struct Conv3 : torch::autograd::Function<Conv3> {
  // Positions whose slopes and inputs pass through all outputs while they lie in the cache.
  static constexpr int64_t SOME = 256;
  static Tensor plain(const Tensor &x, const Tensor &w, const Tensor &b, int64_t stride) {
    return at::conv2d(x, w.to(x.scalar_type()), b.to(x.scalar_type()), stride, 1);
  }
  static Tensor run(const Tensor &x, const Tensor &w, const Tensor &b, int64_t stride) {
    if (!winograd::takes(own_kind_of(x), x, w, stride)) return plain(x, w, b, stride);
    auto y = at::empty({x.size(0), w.size(0), x.size(2), x.size(3)}, x.options(), LAST);
    const auto bias = b.contiguous();
    winograd::convolve(x, w, false, &bias, y);
    return y;
  }
  static Tensor weights(const Tensor &g, const Tensor &x, const Tensor &w, int64_t stride) {
    if (winograd::takes(own_kind_of(x), x, w, stride)) return winograd::weights(g, x, w);
    auto dw = at::zeros_like(w);
    const auto outputs = w.size(0);
    const pshim::Conv3Shape conv{x.size(2), x.size(3), x.size(1), outputs, stride};
    const auto rows = conv.rows(), some = std::max<int64_t>(1, SOME / conv.columns());
    // A thread has rows of the kernel and outputs of its own, whose sums run over all pictures in their order.
    const auto block = kernels().conv3_outputs, blocks = (outputs + block - 1) / block;
    pshim::in_turns(3 * blocks, std::min(3 * blocks, 2 * pshim::threads()), [&](int64_t a, int64_t b) {
      for (int64_t picture = 0; picture < x.size(0); ++picture) {
        const auto *from = in(x) + picture * x.stride(0), *slopes = in(g) + picture * g.stride(0);
        for (int64_t row = 0; row < rows; row += some)
          for (int64_t tap = a / blocks; tap * blocks < b; ++tap) {
            const auto first = std::max<int64_t>(a - tap * blocks, 0) * block, last = std::min((b - tap * blocks) * block, outputs);
            kernels().conv3_weights(slopes, from, out(dw), conv, tap, row, std::min(row + some, rows), first, last);
          }
      }
    });
    return dw;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &w, const Tensor &b, int64_t stride) {
    ctx->save_for_backward({x, w, b});
    ctx->saved_data["stride"] = stride;
    return run(x, w, b, stride);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto x = saved[0], w = saved[1];
    const auto stride = ctx->saved_data["stride"].toInt();
    if (at::GradMode::is_enabled()) {
      auto all = again([&](const variable_list &v) { return plain(v[0], v[1], v[2], stride); }, saved, grads[0]);
      return {all[0], all[1], all[2], Tensor()};
    }
    const auto g = grads[0].contiguous(LAST);
    Tensor dx;
    if (ctx->needs_input_grad(0) && winograd::takes(own_kind_of(x), x, w, stride)) {
      winograd::convolve(g, w, true, nullptr, dx = at::empty_like(x));
    } else if (ctx->needs_input_grad(0)) {
      const auto both = {stride, stride};
      dx = std::get<0>(at::convolution_backward(g, x, w, w.size(0), both, {1, 1}, {1, 1}, false, {0, 0}, 1, {true, false, false}));
    }
    return {dx, ctx->needs_input_grad(1) ? weights(g, x, w, stride) : Tensor(), ctx->needs_input_grad(2) ? g.sum({0, 2, 3}, false, at::kFloat) : Tensor(), Tensor()};
  }
};
} // namespace

extern "C" {
int pshim_conv3_takes(at::Tensor *x, at::Tensor *w, int64_t stride) {
  if (!w->is_contiguous(LAST)) return 0;
  if (winograd::takes(own_kind(), *x, *w, stride)) return 1;
  return !at::autocast::is_autocast_enabled(at::kCPU) && learns({w}) && w->size(1) % kernels().lanes == 0;
}

int pshim_conv3(at::Tensor *x, at::Tensor *w, at::Tensor *b, int64_t stride, at::Tensor **y) {
  return guarded([&] {
    const auto pictures = x->to(own_kind().value_or(x->scalar_type())).contiguous(LAST);
    *y = new Tensor(learns({x, w, b}) ? Conv3::apply(pictures, *w, *b, stride) : Conv3::run(pictures, *w, *b, stride));
  });
}
}
