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

typedef unsigned short Half;
inline const float *numbers(const Tensor &t, const float *) { return in(t); }
inline Half *numbers(const Tensor &t, const Half *) { return bits(t); }

// The weights [O, 3, 3, C] as sixteen right sides of products in the order of `multiply`: [C, O], or [O, C] of the kernel turned around.
Places<float> right(const Tensor &w, bool turned, const float *) {
  const auto outputs = w.size(0), inputs = w.size(1), panel = kernels().panel;
  const Places<float> u(inputs * outputs);
  each((outputs + panel - 1) / panel, PLACES * panel * inputs, [&](int64_t a, int64_t b) {
    if (turned)
      return kernels().winograd_weights(in(w), u.at(0), u.step, inputs, panel, a * panel, std::min(b * panel, outputs), a * panel, outputs, true);
    const Places<float> rows(panel * inputs);
    for (; a < b; ++a) {
      const auto from = a * panel, count = std::min(panel, outputs - from);
      kernels().winograd_weights(in(w), rows.at(0), rows.step, inputs, inputs, from, from + count, 0, panel, false);
      for (int64_t k = 0; k < PLACES; ++k)
        kernels().panels(rows.at(k), inputs, 1, u.at(k) + from * inputs, count, inputs);
    }
  });
  return u;
}

// In bf16 pairs of the depth lie together, which may be outputs of different panels.
Places<Half> right(const Tensor &w, bool turned, const Half *) {
  const auto outputs = w.size(0), inputs = w.size(1);
  const Places<float> rows(inputs * outputs);
  const Places<Half> u(inputs * outputs);
  each(outputs, PLACES * inputs, [&](int64_t a, int64_t b) {
    kernels().winograd_weights(in(w), rows.at(0), rows.step, inputs, inputs, a, b, a, outputs, turned);
  });
  each(PLACES, inputs * outputs, [&](int64_t a, int64_t b) {
    for (; a < b; ++a)
      turned ? kernels_bf16.panels(rows.at(a), 1, inputs, u.at(a), inputs, outputs) : kernels_bf16.panels(rows.at(a), inputs, 1, u.at(a), outputs, inputs);
  });
  return u;
}

// What the passes below ask of the kernels of either kind.
void pictures(const float *x, const Places<float> &v, const Conv3Shape &conv, int64_t a, int64_t b, const float *nothing) {
  kernels().winograd_pictures(x, v.at(0), v.step, conv, a, b, conv.inputs, nothing);
}
void pictures(const Half *x, const Places<Half> &v, const Conv3Shape &conv, int64_t a, int64_t b, const Half *nothing) {
  kernels_bf16.winograd_pictures(x, v.at(0), v.step, conv, a, b, conv.inputs, nothing);
}
void multiply(const float *v, const float *u, float *m, int64_t rows, int64_t width, int64_t inputs) {
  kernels().multiply(v, inputs, 1, u, nullptr, 0, m, width, rows, width, inputs);
}
void multiply(const Half *v, const Half *u, float *m, int64_t rows, int64_t width, int64_t inputs) {
  kernels_bf16.multiply_to_floats(v, Left::rows(inputs), u, nullptr, 0, m, width, rows, width, inputs);
}
void finish(const Places<float> &m, const float *bias, float *y, const Conv3Shape &conv, int64_t a, int64_t b, int64_t first, int64_t last) {
  kernels().winograd_out(m.at(0), m.step, bias, y, conv, a, b, first, last);
}
void finish(const Places<float> &m, const float *bias, Half *y, const Conv3Shape &conv, int64_t a, int64_t b, int64_t first, int64_t last) {
  kernels_bf16.winograd_out(m.at(0), m.step, bias, y, conv, a, b, first, last);
}

// y [B, O, H, W] of x [B, C, H, W], and the weights, turned around or not.
template <class T> void convolve(const Tensor &x, const Tensor &w, bool turned, const Tensor *bias, const Tensor &y) {
  const T *kind = nullptr;
  const auto u = right(w, turned, kind);
  const Conv3Shape conv{x.size(2), x.size(3), x.size(1), y.size(1), 1};
  const auto inputs = conv.inputs, outputs = conv.outputs, panel = kernels().panel;
  const std::vector<T> nothing(inputs);
  // Pictures and products of so many columns stay in the second cache; where weights leave the last one, more tiles pass for each time that
  // they come back.
  const auto block = 2 * panel, some = inputs * outputs >= WIDE ? 64 : winograd::some(4096, inputs);
  pshim::in_turns(tiles(x), pshim::pieces(tiles(x), some), [&](int64_t a, int64_t b) {
    const auto rows = b - a;
    const Places<T> v(rows * inputs);
    const Places<float> m(rows * block);
    pictures(numbers(x, kind), v, conv, a, b, nothing.data());
    for (int64_t first = 0; first < outputs; first += block) {
      const auto last = std::min(first + block, outputs), width = last - first;
      for (int64_t k = 0; k < PLACES; ++k) multiply(v.at(k), u.at(k) + first * inputs, m.at(k), rows, width, inputs);
      finish(m, bias ? in(*bias) : nullptr, static_cast<T *>(y.data_ptr()), conv, a, b, first, last);
    }
  });
}

void convolve(const Tensor &x, const Tensor &w, bool turned, const Tensor *bias, const Tensor &y) {
  half(x) ? convolve<Half>(x, w, turned, bias, y) : convolve<float>(x, w, turned, bias, y);
}

// To sums [16, outputs [first, last), inputs] those over tiles [a, b), where they are not the first.
struct Slopes {
  const Conv3Shape &conv;
  int64_t first, last;
  void add(const Tensor &g, const Tensor &x, const Places<float> &v, const Places<float> &z, int64_t a, int64_t b, const float *nothing,
           const std::function<float *(int64_t)> &sum, bool start) const {
    const auto inputs = conv.inputs, width = last - first, rows = b - a;
    kernels().winograd_pictures(in(x), v.at(0), v.step, conv, a, b, kernels().panel, nothing);
    kernels().winograd_slopes(in(g), z.at(0), z.step, conv, a, b, first, last, nothing);
    for (int64_t k = 0; k < PLACES; ++k)
      kernels().multiply(z.at(k), 1, width, v.at(k), start ? nullptr : sum(k), inputs, sum(k), inputs, width, inputs, rows);
  }
  void add(const Tensor &g, const Tensor &x, const Places<Half> &v, const Places<Half> &z, int64_t a, int64_t b, const Half *nothing,
           const std::function<float *(int64_t)> &sum, bool start) const {
    const auto inputs = conv.inputs, width = last - first, rows = b - a;
    kernels_bf16.winograd_pictures_in_pairs(bits(x), v.at(0), v.step, conv, a, b, nothing);
    kernels_bf16.winograd_slopes_in_pairs(bits(g), z.at(0), z.step, conv, a, b, first, last, nothing);
    for (int64_t k = 0; k < PLACES; ++k)
      kernels_bf16.multiply_to_floats(z.at(k), Left::turned(rows), v.at(k), start ? nullptr : sum(k), inputs, sum(k), inputs, width, inputs, rows);
  }
};

// Slopes of weights w for slopes g of what they made of x: sums over parts of all tiles, which do not depend on threads, then over the parts.
template <class T> Tensor weights(const Tensor &g, const Tensor &x, const Tensor &w) {
  const Conv3Shape conv{x.size(2), x.size(3), x.size(1), w.size(0), 1};
  const auto inputs = conv.inputs, outputs = conv.outputs, all = tiles(x);
  // What the sums of a block move is paid once for so many tiles, and pictures are turned once a block.
  const auto some = winograd::some(8192, inputs), block = std::min(outputs, std::max<int64_t>(32, 16384 / inputs / 16 * 16));
  const auto blocks = (outputs + block - 1) / block, most = std::max<int64_t>(1, 16 / blocks);
  const auto parts = std::clamp(all / (4 * some), std::min({most, all / 16, int64_t(4)}), most);
  const std::vector<T> nothing(std::max(inputs, outputs));
  const Places<float> du(outputs * inputs, parts);
  pshim::in_turns(parts * blocks, parts * blocks, [&](int64_t i, int64_t) {
    const auto part = i / blocks, first = i % blocks * block;
    const Slopes slopes{conv, first, std::min(first + block, outputs)};
    // In bf16 tiles come in pairs.
    const Places<T> v((some + 1) * inputs), z((some + 1) * (slopes.last - first));
    const auto from = all * part / parts, to = all * (part + 1) / parts;
    for (auto a = from; a < to; a += some)
      slopes.add(g, x, v, z, a, std::min(a + some, to), nothing.data(), [&](int64_t k) { return du.at(part * PLACES + k) + first * inputs; }, a == from);
  });
  auto dw = at::empty_like(w);
  each(outputs, PLACES * parts * inputs, [&](int64_t a, int64_t b) {
    kernels().winograd_slopes_of_weights(du.at(0) + a * inputs, du.step, parts, PLACES * du.step, out(dw) + a * 9 * inputs, inputs, b - a);
  });
  return dw;
}

Tensor weights(const Tensor &g, const Tensor &x, const Tensor &w) { return half(x) ? weights<Half>(g, x, w) : weights<float>(g, x, w); }
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
