// Convolutions of kernel 3 and padding 1 over channels-last pictures in f32, with a backward pass of their own. A second derivative runs
// through libtorch's own operations.
#include "layers.h"

namespace {
using namespace pshim;
using pshim::Conv3Shape;

constexpr auto LAST = at::MemoryFormat::ChannelsLast;

// Winograd's way for stride 1, where products are our own.
namespace winograd {
// Numbers of a patch.
constexpr int64_t PLACES = 16;

int64_t tiles(const Tensor &x) { return x.size(0) * ((x.size(2) + 1) / 2) * ((x.size(3) + 1) / 2); }

// Weights of so many channels in and out leave the last cache.
constexpr int64_t WIDE = 1 << 18;

// Tiles that are worth the transforms of so many weights.
int64_t fewest(const Tensor &w) { return std::max<int64_t>(32, w.size(0) * w.size(1) >> 14); }

bool takes(const Tensor &x, const Tensor &w, int64_t stride) {
  const auto lanes = kernels().lanes;
  return own_products_now() && stride == 1 && w.size(0) % lanes == 0 && w.size(1) % lanes == 0 && tiles(x) >= fewest(w);
}

// Tiles at a time, of pictures of this many channels: `numbers` of each place.
int64_t some(int64_t numbers, int64_t channels) { return std::clamp<int64_t>(numbers / channels, 16, 128); }

// Sixteen matrices of n numbers at most, `parts` times. They are written and read side by side, and a power of two between them would put all
// sixteen into one set of the first cache.
struct Places {
  int64_t step;
  Tensor numbers;
  explicit Places(int64_t n, int64_t parts = 1) : step(n + 32), numbers(at::empty({parts * PLACES * step}, at::kFloat)) {}
  float *at(int64_t k) const { return out(numbers) + k * step; }
};

// The weights [O, 3, 3, C] as sixteen right sides of products in the order of `multiply`: [C, O], or [O, C] of the kernel turned around.
Places right(const Tensor &w, bool turned) {
  const auto outputs = w.size(0), inputs = w.size(1), panel = kernels().panel;
  const Places u(inputs * outputs);
  each((outputs + panel - 1) / panel, PLACES * panel * inputs, [&](int64_t a, int64_t b) {
    if (turned)
      return kernels().winograd_weights(in(w), u.at(0), u.step, inputs, panel, a * panel, std::min(b * panel, outputs), a * panel, outputs, true);
    const Places rows(panel * inputs);
    for (; a < b; ++a) {
      const auto from = a * panel, count = std::min(panel, outputs - from);
      kernels().winograd_weights(in(w), rows.at(0), rows.step, inputs, inputs, from, from + count, 0, panel, false);
      for (int64_t k = 0; k < PLACES; ++k)
        kernels().panels(rows.at(k), inputs, 1, u.at(k) + from * inputs, count, inputs);
    }
  });
  return u;
}

// y [B, O, H, W] of x [B, C, H, W], u the right sides of [C, O].
void convolve(const Tensor &x, const Places &u, const Tensor *bias, const Tensor &y) {
  const Conv3Shape conv{x.size(2), x.size(3), x.size(1), y.size(1), 1};
  const auto inputs = conv.inputs, outputs = conv.outputs, panel = kernels().panel;
  const std::vector<float> nothing(inputs);
  // Pictures and products of so many columns stay in the second cache; where weights leave the last one, more tiles pass for each time that
  // they come back.
  const auto block = 2 * panel, some = inputs * outputs >= WIDE ? 64 : winograd::some(4096, inputs);
  pshim::in_turns(tiles(x), pshim::pieces(tiles(x), some), [&](int64_t a, int64_t b) {
    const auto rows = b - a;
    const Places v(rows * inputs), m(rows * block);
    kernels().winograd_pictures(in(x), v.at(0), v.step, conv, a, b, inputs, nothing.data());
    for (int64_t first = 0; first < outputs; first += block) {
      const auto last = std::min(first + block, outputs), width = last - first;
      for (int64_t k = 0; k < PLACES; ++k)
        kernels().multiply(v.at(k), inputs, 1, u.at(k) + first * inputs, nullptr, 0, m.at(k), width, rows, width, inputs);
      kernels().winograd_out(m.at(0), m.step, bias ? in(*bias) : nullptr, out(y), conv, a, b, first, last);
    }
  });
}

// Slopes of weights w for slopes g of what they made of x: sums over parts of all tiles, which do not depend on threads, then over the parts.
Tensor weights(const Tensor &g, const Tensor &x, const Tensor &w) {
  const Conv3Shape conv{x.size(2), x.size(3), x.size(1), w.size(0), 1};
  const auto inputs = conv.inputs, outputs = conv.outputs, all = tiles(x);
  // What the sums of a block move is paid once for so many tiles, and pictures are turned once a block.
  const auto some = winograd::some(8192, inputs), block = std::min(outputs, std::max<int64_t>(32, 16384 / inputs / 16 * 16));
  const auto blocks = (outputs + block - 1) / block, most = std::max<int64_t>(1, 16 / blocks);
  const auto parts = std::clamp(all / (4 * some), std::min({most, all / 16, int64_t(4)}), most);
  const std::vector<float> nothing(std::max(inputs, outputs));
  const Places du(outputs * inputs, parts);
  pshim::in_turns(parts * blocks, parts * blocks, [&](int64_t i, int64_t) {
    const auto part = i / blocks, first = i % blocks * block, last = std::min(first + block, outputs), width = last - first;
    const Places v(some * inputs), z(some * width);
    const auto from = all * part / parts, to = all * (part + 1) / parts;
    for (auto a = from; a < to; a += some) {
      const auto b = std::min(a + some, to), rows = b - a;
      kernels().winograd_pictures(in(x), v.at(0), v.step, conv, a, b, kernels().panel, nothing.data());
      kernels().winograd_slopes(in(g), z.at(0), z.step, conv, a, b, first, last, nothing.data());
      for (int64_t k = 0; k < PLACES; ++k) {
        float *sum = du.at(part * PLACES + k) + first * inputs;
        kernels().multiply(z.at(k), 1, width, v.at(k), a == from ? nullptr : sum, inputs, sum, inputs, width, inputs, rows);
      }
    }
  });
  auto dw = at::empty_like(w);
  each(outputs, PLACES * parts * inputs, [&](int64_t a, int64_t b) {
    kernels().winograd_slopes_of_weights(du.at(0) + a * inputs, du.step, parts, PLACES * du.step, out(dw) + a * 9 * inputs, inputs, b - a);
  });
  return dw;
}
} // namespace winograd

struct Conv3 : torch::autograd::Function<Conv3> {
  // Positions whose slopes and inputs pass through all outputs while they lie in the cache.
  static constexpr int64_t SOME = 256;
  static Tensor plain(const Tensor &x, const Tensor &w, const Tensor &b, int64_t stride) { return at::conv2d(x, w, b, stride, 1); }
  static Tensor run(const Tensor &x, const Tensor &w, const Tensor &b, int64_t stride) {
    if (!winograd::takes(x, w, stride)) return plain(x, w, b, stride);
    auto y = at::empty({x.size(0), w.size(0), x.size(2), x.size(3)}, x.options(), LAST);
    const auto bias = b.contiguous();
    winograd::convolve(x, winograd::right(w, false), &bias, y);
    return y;
  }
  static Tensor weights(const Tensor &g, const Tensor &x, const Tensor &w, int64_t stride) {
    if (winograd::takes(x, w, stride)) return winograd::weights(g, x, w);
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
    if (ctx->needs_input_grad(0) && winograd::takes(x, w, stride)) {
      winograd::convolve(g, winograd::right(w, true), nullptr, dx = at::empty_like(x));
    } else if (ctx->needs_input_grad(0)) {
      const auto both = {stride, stride};
      dx = std::get<0>(at::convolution_backward(g, x, w, w.size(0), both, {1, 1}, {1, 1}, false, {0, 0}, 1, {true, false, false}));
    }
    return {dx, ctx->needs_input_grad(1) ? weights(g, x, w, stride) : Tensor(), ctx->needs_input_grad(2) ? g.sum({0, 2, 3}) : Tensor(), Tensor()};
  }
};
} // namespace

extern "C" {
int pshim_conv3_takes(at::Tensor *x, at::Tensor *w, int64_t stride) {
  if (at::autocast::is_autocast_enabled(at::kCPU) || !w->is_contiguous(LAST)) return 0;
  return winograd::takes(*x, *w, stride) || (learns({w}) && w->size(1) % kernels().lanes == 0);
}

int pshim_conv3(at::Tensor *x, at::Tensor *w, at::Tensor *b, int64_t stride, at::Tensor **y) {
  return guarded([&] {
    const auto pictures = x->contiguous(LAST);
    *y = new Tensor(learns({x, w, b}) ? Conv3::apply(pictures, *w, *b, stride) : Conv3::run(pictures, *w, *b, stride));
  });
}
}
