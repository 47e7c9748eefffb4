// Fused layers on the CPU, each with its own backward pass. Arithmetic is f32; bf16 is widened and rounded in the cache, on the way in and
// out. A second derivative runs through libtorch's own operations.
#include "guard.h"
#include "kernels.h"
#include "turns.h"
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <cmath>
#include <functional>
#include <optional>

namespace pshim {
const float EXPONENT_BOUND = 87.0f;
}

namespace {
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const pshim::Kernels &kernels() {
  static const pshim::Kernels &chosen = [&]() -> const pshim::Kernels & {
#ifdef PSHIM_X86
    const std::string have = at::get_cpu_capability();
    if (have.rfind("AVX512", 0) == 0) return pshim::kernels_avx512;
    if (have.rfind("AVX2", 0) == 0) return pshim::kernels_avx2;
#endif
    return pshim::kernels_plain;
  }();
  return chosen;
}

const float *in(const Tensor &t) { return t.const_data_ptr<float>(); }
float *out(const Tensor &t) { return t.mutable_data_ptr<float>(); }

// Below this many floats a thread costs more than it saves.
constexpr int64_t GRAIN = 16384;

void each(int64_t n, int64_t floats, const std::function<void(int64_t, int64_t)> &work) {
  const auto t = pshim::threads(), grains = std::max<int64_t>(1, n * floats / GRAIN);
  pshim::in_turns(n, std::min({n, grains, t == 1 ? 1 : 8 * t}), work);
}

bool half(const Tensor &t) { return t.scalar_type() == at::kBFloat16; }
unsigned short *bits(const Tensor &t) { return static_cast<unsigned short *>(t.data_ptr()); }

// n numbers of a tensor, from `first` on, as f32: where they lie, or widened.
struct Read {
  std::vector<float> wide;
  const float *operator()(const Tensor &t, int64_t first, int64_t n) {
    if (!half(t)) return in(t) + first;
    if (static_cast<int64_t>(wide.size()) < n) wide.resize(n);
    kernels().widen(bits(t) + first, wide.data(), n);
    return wide.data();
  }
};

// Room for n numbers of a tensor, from `first` on, as f32: where they belong, or beside, until `done` has rounded them.
struct Write {
  std::vector<float> wide;
  unsigned short *to = nullptr;
  int64_t n = 0;
  float *operator()(const Tensor &t, int64_t first, int64_t count) {
    to = half(t) ? bits(t) + first : nullptr;
    n = count;
    if (!to) return out(t) + first;
    if (static_cast<int64_t>(wide.size()) < n) wide.resize(n);
    return wide.data();
  }
  void done() const {
    if (to) kernels().narrow(wide.data(), to, n);
  }
};

// `count` rows of `width` numbers, `row` apart from `first` on, as f32: where they lie, or one behind the other in room taken off `free`.
struct Rows {
  const Tensor &t;
  int64_t first, row, count, width;
  float *room;
  Rows(const Tensor &t, int64_t first, int64_t row, int64_t count, int64_t width, float *&free)
      : t(t), first(first), row(row), count(count), width(width), room(free) {
    if (half(t)) free += count * width;
  }
  int64_t apart() const { return half(t) ? width : row; }
  float *at() const { return half(t) ? room : t.data_ptr<float>() + first; }
  const float *read() const {
    for (int64_t i = 0; half(t) && i < count; ++i) kernels().widen(bits(t) + first + i * row, room + i * width, width);
    return at();
  }
  void written() const {
    for (int64_t i = 0; half(t) && i < count; ++i) kernels().narrow(room + i * width, bits(t) + first + i * row, width);
  }
};

// Floats that are widened at a time where a layer may stop anywhere: they stay in the first cache.
constexpr int64_t STRIP = 4096;

// Rows of `width` that make up a strip.
int64_t strip(int64_t width) { return std::max<int64_t>(1, STRIP / width); }

// Gradients that can be differentiated again: the plain form on the saved inputs, under autograd.
template <class F> variable_list again(F plain, const variable_list &inputs, const Tensor &g) {
  at::AutoGradMode on(true);
  return torch::autograd::grad({plain(inputs)}, inputs, {g}, /*retain_graph=*/true, /*create_graph=*/true, /*allow_unused=*/true);
}

// Rows of D numbers that may lie any distance apart, one a sample: [B, 1, D] or [B, D].
Tensor vectors(const Tensor &t) { return t.stride(-1) == 1 ? t : t.contiguous(); }

struct Gelu : torch::autograd::Function<Gelu> {
  static Tensor run(const Tensor &x) {
    auto y = at::empty_like(x);
    each(x.numel(), 1, [&](int64_t a, int64_t b) {
      Read from;
      Write to;
      for (; a < b; a += STRIP) {
        const auto n = std::min(STRIP, b - a);
        kernels().gelu(from(x, a, n), to(y, a, n), n);
        to.done();
      }
    });
    return y;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x) {
    ctx->save_for_backward({x});
    return run(x);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto x = ctx->get_saved_variables()[0];
    if (at::GradMode::is_enabled()) return {at::gelu_backward(grads[0], x, "tanh")};
    const auto g = grads[0].contiguous();
    auto dx = at::empty_like(x);
    each(x.numel(), 1, [&](int64_t a, int64_t b) {
      Read grad, from;
      Write to;
      for (; a < b; a += STRIP) {
        const auto n = std::min(STRIP, b - a);
        kernels().gelu_backward(grad(g, a, n), from(x, a, n), to(dx, a, n), n);
        to.done();
      }
    });
    return {dx};
  }
};

// Whether products in f32 are better left to our own kernel than to MKL: on processors of other makers than MKL's, with vectors to speak of.
bool own_products() {
#ifdef PSHIM_X86
  static const bool own = [] {
    __builtin_cpu_init();
    return kernels().lanes >= 8 && !__builtin_cpu_is("intel");
  }();
  return own;
#else
  return false;
#endif
}

// The right side of products in the order in which our own kernel reads it.
struct Panels {
  Tensor laid;
  int64_t columns, depth;
  // Laid before.
  Panels(const Tensor &laid, int64_t columns, int64_t depth) : laid(laid), columns(columns), depth(depth) {}
  // Column j of the right side is row j of the matrix.
  static Panels of_rows(const Tensor &w) { return Panels(w, w.size(0), w.size(1), w.size(1), 1); }
  // The right side is the matrix.
  static Panels of_columns(const Tensor &w) { return Panels(w, w.size(1), w.size(0), 1, w.size(1)); }

private:
  Panels(const Tensor &w, int64_t columns, int64_t depth, int64_t row, int64_t step) : columns(columns), depth(depth) {
    const auto lanes = kernels().lanes, panel = kernels().panel;
    laid = at::empty({(columns + lanes - 1) / lanes * lanes * depth}, w.options());
    each((columns + panel - 1) / panel, panel * depth, [&](int64_t a, int64_t b) {
      kernels().panels(in(w) + a * panel * row, row, step, out(laid) + a * panel * depth, std::min(b * panel, columns) - a * panel, depth);
    });
  }
};

// y [N, H] = start + x [N, D] w, w laid out once: for many rows.
void multiply_many(const Tensor &x, const Panels &w, const Tensor *start, const Tensor &y) {
  // Numbers of x that all panels meet while they lie in the second cache.
  constexpr int64_t SOME = 1 << 16, FEWEST = 48;
  const auto n = x.size(0), columns = w.columns, depth = w.depth;
  pshim::in_turns(n, pshim::pieces(n, std::max(FEWEST, SOME / depth)), [&](int64_t a, int64_t b) {
    kernels().multiply(in(x) + a * depth, depth, 1, in(w.laid), start ? in(*start) : nullptr, 0, out(y) + a * columns, columns, b - a, columns,
                       depth);
  });
}

// y [N, H] = x [N, D] w^T + bias for few rows, which are laid out instead of the weights [H, D]: the transposed product, turned while it lies in
// the first cache. The same sums.
void linear_few(const Tensor &x, const Tensor &w, const Tensor &bias, const Tensor &y) {
  constexpr int64_t SOME = 4096, FEWEST = 16;
  const auto n = x.size(0), width = w.size(0), depth = w.size(1);
  const auto rows = Panels::of_rows(x);
  pshim::in_turns(width, pshim::pieces(width, std::max(FEWEST, SOME / n)), [&](int64_t a, int64_t b) {
    const auto lines = b - a;
    std::vector<float> made(lines * n);
    for (int64_t i = 0; i < lines; ++i) std::fill_n(made.data() + i * n, n, in(bias)[a + i]);
    kernels().multiply(in(w) + a * depth, depth, 1, in(rows.laid), made.data(), n, made.data(), n, lines, n, depth);
    kernels().turn(made.data(), n, out(y) + a, width, lines, n);
  });
}

// The right side of a product of many rows, for our own kernel or for libtorch's.
struct Right {
  Tensor matrix;
  std::optional<Panels> panels;
  // Of x w^T, for weights w of a linear layer.
  static Right of_layer(const Tensor &w) { return {w.t(), own_products() ? std::optional(Panels::of_rows(w)) : std::nullopt}; }
  // Of g w, the slope of its input.
  static Right of_slope(const Tensor &w) { return {w, own_products() ? std::optional(Panels::of_columns(w)) : std::nullopt}; }
  // y = x times this, plus the bias if there is one.
  void to(Tensor y, const Tensor &x, const Tensor *bias = nullptr) const {
    if (panels)
      multiply_many(x, *panels, bias, y);
    else if (bias)
      at::addmm_out(y, *bias, x, matrix);
    else
      at::mm_out(y, x, matrix);
  }
};

// A linear layer over many rows.
struct Linear : torch::autograd::Function<Linear> {
  static Tensor plain(const variable_list &v) { return at::linear(v[0], v[1], v[2]); }
  static Tensor run(const Tensor &x, const Tensor &w, const Tensor &b) {
    auto y = at::empty({x.size(0), w.size(0)}, x.options());
    Right::of_layer(w).to(y, x, &b);
    return y;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &w, const Tensor &b) {
    ctx->save_for_backward({x, w, b});
    return run(x, w, b);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) return again([](const variable_list &v) { return plain(v); }, saved, grads[0]);
    const auto g = grads[0].contiguous(), x = saved[0], w = saved[1];
    Tensor dx;
    if (ctx->needs_input_grad(0)) Right::of_slope(w).to(dx = at::empty_like(x), g);
    return {dx, ctx->needs_input_grad(1) ? at::mm(g.t(), x) : Tensor(), ctx->needs_input_grad(2) ? g.sum(0) : Tensor()};
  }
};

// Linear layers one after another with a function between them, whose slope is that of its result: a few rows pass all of them on one thread,
// there and back, and threads meet once a pass instead of once a layer.
struct Perceptron : torch::autograd::Function<Perceptron> {
  enum Squash : int64_t { RELU, TANH };
  // Rows that pass together, and outputs whose slopes are taken together.
  static constexpr int64_t ROWS = 32, OUTPUTS = 32;
  // `v`: x [N, D], then weights [H, D] and bias [H] of every layer.
  static Tensor plain(const variable_list &v, int64_t squash) {
    auto h = at::linear(v[0], v[1], v[2]);
    for (size_t i = 3; i < v.size(); i += 2) h = at::linear(squash == RELU ? at::relu(h) : at::tanh(h), v[i], v[i + 1]);
    return h;
  }
  // Layer by layer [N, H], the last what comes out; where nothing learns, the last alone.
  static variable_list run(const Tensor &x, at::TensorList layers, int64_t squash, bool keep) {
    const auto n = x.size(0);
    const auto depth = layers.size() / 2;
    std::vector<Panels> panels;
    variable_list made(depth);
    for (size_t i = 0; i < depth; ++i) {
      panels.push_back(Panels::of_rows(layers[2 * i]));
      if (keep || i + 1 == depth) made[i] = at::empty({n, panels[i].columns}, x.options());
    }
    pshim::in_turns(n, pshim::pieces(n, ROWS), [&](int64_t a, int64_t b) {
      const at::AutoDispatchBelowADInplaceOrView unrecorded;
      auto h = x.narrow(0, a, b - a);
      for (size_t i = 0; i < depth; ++i) {
        if (i > 0) squash == RELU ? h.relu_() : h.tanh_();
        const auto next = made[i].defined() ? made[i].narrow(0, a, b - a) : at::empty({b - a, panels[i].columns}, x.options());
        multiply_many(h, panels[i], &layers[2 * i + 1], next);
        h = next;
      }
    });
    return made;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x, at::TensorList layers, int64_t squash) {
    const auto made = run(x, layers, squash, true);
    variable_list saved{x};
    saved.insert(saved.end(), layers.begin(), layers.end());
    saved.insert(saved.end(), made.begin(), made.end() - 1);
    ctx->save_for_backward(saved);
    ctx->saved_data["squash"] = squash;
    return made.back();
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto squash = ctx->saved_data["squash"].toInt();
    const size_t depth = saved.size() / 3;
    const variable_list all(saved.begin(), saved.begin() + 1 + 2 * depth);
    if (at::GradMode::is_enabled()) {
      auto slopes = again([&](const variable_list &v) { return plain(v, squash); }, all, grads[0]);
      slopes.emplace_back();
      return slopes;
    }
    const auto x = saved[0], g = grads[0].contiguous();
    const auto n = x.size(0);
    const auto weights = [&](size_t i) { return saved[1 + 2 * i]; };
    // What entered layer i.
    const auto entered = [&](size_t i) { return i == 0 ? x : saved[2 * depth + i]; };
    // Slopes of what every layer made, before the function; x counts as made by a layer before the first.
    variable_list slopes(depth);
    std::vector<std::optional<Panels>> panels(depth);
    slopes.back() = g;
    for (size_t i = depth; i-- > 0;) {
      if (i > 0) slopes[i - 1] = at::empty_like(entered(i));
      if (i > 0 || ctx->needs_input_grad(0)) panels[i] = Panels::of_columns(weights(i));
    }
    auto dx = ctx->needs_input_grad(0) ? at::empty_like(x) : Tensor();
    pshim::in_turns(n, pshim::pieces(n, ROWS), [&](int64_t a, int64_t b) {
      const at::AutoDispatchBelowADInplaceOrView unrecorded;
      const auto part = [&](const Tensor &t) { return t.narrow(0, a, b - a); };
      for (size_t i = depth; i-- > 0;) {
        if (!panels[i]) continue;
        auto slope = part(i > 0 ? slopes[i - 1] : dx);
        multiply_many(part(slopes[i]), *panels[i], nullptr, slope);
        if (i > 0 && squash == RELU) at::threshold_backward_out(slope, slope, part(entered(i)), 0);
        if (i > 0 && squash == TANH) at::tanh_backward_out(slope, slope, part(entered(i)));
      }
    });
    variable_list made{dx};
    struct Task {
      size_t layer;
      int64_t from, to;
    };
    std::vector<Task> tasks;
    for (size_t i = 0; i < depth; ++i) {
      const auto wanted = [&](size_t k) { return ctx->needs_input_grad(1 + 2 * i + k); };
      made.push_back(wanted(0) ? at::empty_like(weights(i)) : Tensor());
      made.push_back(wanted(1) ? at::empty({weights(i).size(0)}, x.options()) : Tensor());
      panels[i] = wanted(0) ? std::optional(Panels::of_columns(entered(i))) : std::nullopt;
      const auto outputs = weights(i).size(0);
      for (int64_t from = 0; (wanted(0) || wanted(1)) && from < outputs; from += OUTPUTS) tasks.push_back({i, from, std::min(from + OUTPUTS, outputs)});
    }
    made.emplace_back();
    const int64_t count = tasks.size();
    pshim::in_turns(count, count, [&](int64_t a, int64_t) {
      const auto [i, from, to] = tasks[a];
      const auto rows = to - from, outputs = weights(i).size(0);
      std::vector<float> turned(rows * n);
      kernels().turn(in(slopes[i]) + from, outputs, turned.data(), n, n, rows);
      if (const auto &dw = made[1 + 2 * i]; dw.defined())
        kernels().multiply(turned.data(), n, 1, in(panels[i]->laid), nullptr, 0, out(dw) + from * dw.size(1), dw.size(1), rows, dw.size(1), n);
      if (const auto &db = made[2 + 2 * i]; db.defined())
        for (int64_t r = 0; r < rows; ++r) out(db)[from + r] = kernels().sum(turned.data() + r * n, n);
    });
    return made;
  }
};

// Two linear layers with a GELU between them, a few rows at a time: what one hands to the next stays in the cache. The same products and
// sums as a layer at a time.
struct Mlp : torch::autograd::Function<Mlp> {
  // Rows at a time, and the fewest that are worth a thread. Wide weights are read anew for every share, so shares grow with them.
  static int64_t some(int64_t width) { return std::max<int64_t>(256, width); }
  static constexpr int64_t FEWEST = 128;
  // `v`: x [N, D], weights [H, D] and bias [H] of the first layer, [D', H] and [D'] of the second.
  static Tensor plain(const variable_list &v) { return at::linear(at::gelu(at::linear(v[0], v[1], v[2]), "tanh"), v[3], v[4]); }
  template <class F> static void rows(int64_t n, int64_t width, F work) {
    pshim::in_turns(n, pshim::pieces(n, some(width)), [&](int64_t a, int64_t b) {
      const at::AutoDispatchBelowADInplaceOrView unrecorded;
      work([&](const Tensor &t) { return t.narrow(0, a, b - a); });
    });
  }
  // `keep`: what the first layer made before and after its GELU, for the way back; without it, of a few rows and for a moment.
  static Tensor run(const Tensor &x, const Tensor &w1, const Tensor &b1, const Tensor &w2, const Tensor &b2, variable_list *keep) {
    const auto n = x.size(0), hidden = w1.size(0);
    auto y = at::empty({n, w2.size(0)}, x.options());
    if (keep) *keep = {at::empty({n, hidden}, x.options()), at::empty({n, hidden}, x.options())};
    const auto first = Right::of_layer(w1), second = Right::of_layer(w2);
    rows(n, x.size(1), [&](auto part) {
      const auto from = part(x);
      auto before = keep ? part((*keep)[0]) : at::empty({from.size(0), hidden}, x.options());
      auto after = keep ? part((*keep)[1]) : before;
      first.to(before, from, &b1);
      kernels().gelu(in(before), out(after), before.numel());
      second.to(part(y), after, &b2);
    });
    return y;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &w1, const Tensor &b1, const Tensor &w2, const Tensor &b2) {
    variable_list kept;
    auto y = run(x, w1, b1, w2, b2, &kept);
    ctx->save_for_backward({x, w1, b1, w2, b2, kept[0], kept[1]});
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto x = saved[0], w1 = saved[1], w2 = saved[3], h = saved[5], a = saved[6];
    if (at::GradMode::is_enabled()) return again([](const variable_list &v) { return plain(v); }, {x, w1, saved[2], w2, saved[4]}, grads[0]);
    const auto g = grads[0].contiguous();
    // Guidance wants the slope of the input alone, fine-tuning that of some weights.
    const auto wanted = [&](size_t i) { return ctx->needs_input_grad(i); };
    auto dh = at::empty_like(h), dx = wanted(0) ? at::empty_like(x) : Tensor();
    const auto first = Right::of_slope(w1), second = Right::of_slope(w2);
    rows(x.size(0), x.size(1), [&](auto part) {
      const auto slope = part(dh), grad = at::empty_like(slope);
      second.to(grad, part(g));
      kernels().gelu_backward(in(grad), in(part(h)), out(slope), slope.numel());
      if (dx.defined()) first.to(part(dx), slope);
    });
    return {dx, wanted(1) ? at::mm(dh.t(), x) : Tensor(), wanted(2) ? dh.sum(0) : Tensor(), wanted(3) ? at::mm(g.t(), a) : Tensor(),
            wanted(4) ? g.sum(0) : Tensor()};
  }
};

struct AdaLn : torch::autograd::Function<AdaLn> {
  static Tensor plain(const Tensor &x, const Tensor &shift, const Tensor &scale, double eps) {
    const auto wide = [](const Tensor &t) { return t.to(at::kFloat); };
    return at::addcmul(wide(shift), at::layer_norm(wide(x), {x.size(-1)}, {}, {}, eps), wide(scale) + 1.0).to(shift.scalar_type());
  }
  static Tensor run(const Tensor &x, const Tensor &shift, const Tensor &scale, double eps, Tensor &mean, Tensor &rstd) {
    const auto batch = x.size(0), tokens = x.size(1), width = x.size(2);
    auto y = at::empty(x.sizes(), shift.options());
    mean = at::empty({batch, tokens}, x.options().dtype(at::kFloat));
    rstd = at::empty_like(mean);
    const auto a = vectors(shift), s = vectors(scale);
    each(batch, tokens * width, [&](int64_t from, int64_t to) {
      Read seen, shifts, scales;
      Write made;
      for (auto b = from; b < to; ++b) {
        const float *move = shifts(a, b * a.stride(0), width), *stretch = scales(s, b * s.stride(0), width);
        for (auto t = b * tokens; t < (b + 1) * tokens; t += strip(width)) {
          const auto rows = std::min(strip(width), (b + 1) * tokens - t), n = rows * width;
          kernels().adaln(seen(x, t * width, n), move, stretch, made(y, t * width, n), out(mean) + t, out(rstd) + t, rows, width,
                          static_cast<float>(eps));
          made.done();
        }
      }
    });
    return y;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &shift, const Tensor &scale, double eps) {
    Tensor mean, rstd;
    auto y = run(x, shift, scale, eps, mean, rstd);
    ctx->save_for_backward({x, shift, scale, mean, rstd});
    ctx->saved_data["eps"] = eps;
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto x = saved[0], shift = saved[1], scale = saved[2], mean = saved[3], rstd = saved[4];
    if (at::GradMode::is_enabled()) {
      const auto eps = ctx->saved_data["eps"].toDouble();
      auto all = again([&](const variable_list &v) { return plain(v[0], v[1], v[2], eps); }, {x, shift, scale}, grads[0]);
      all.emplace_back();
      return all;
    }
    const auto g = grads[0].contiguous(), s = vectors(scale);
    const auto batch = x.size(0), tokens = x.size(1), width = x.size(2);
    auto dx = at::empty_like(x), dshift = at::empty(shift.sizes(), shift.options()), dscale = at::empty(scale.sizes(), scale.options());
    const auto n = tokens * width;
    each(batch, n, [&](int64_t from, int64_t to) {
      Read grad, seen, scales;
      Write slope, moved, stretched;
      for (auto b = from; b < to; ++b) {
        kernels().adaln_backward(grad(g, b * n, n), seen(x, b * n, n), scales(s, b * s.stride(0), width), in(mean) + b * tokens,
                                 in(rstd) + b * tokens, slope(dx, b * n, n), moved(dshift, b * width, width),
                                 stretched(dscale, b * width, width), tokens, width);
        for (const auto *w : {&slope, &moved, &stretched}) w->done();
      }
    });
    return {dx, dshift, dscale, Tensor()};
  }
};

struct Gated : torch::autograd::Function<Gated> {
  static Tensor run(const Tensor &x, const Tensor &gate, const Tensor &h) {
    const auto batch = x.size(0), tokens = x.size(1), width = x.size(2);
    auto y = at::empty_like(x);
    const auto w = vectors(gate);
    each(batch, tokens * width, [&](int64_t from, int64_t to) {
      Read seen, gates, added;
      Write made;
      for (auto b = from; b < to; ++b) {
        const float *g = gates(w, b * w.stride(0), width);
        for (auto t = b * tokens; t < (b + 1) * tokens; t += strip(width)) {
          const auto rows = std::min(strip(width), (b + 1) * tokens - t), n = rows * width;
          kernels().gated(seen(x, t * width, n), g, added(h, t * width, n), made(y, t * width, n), rows, width);
          made.done();
        }
      }
    });
    return y;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &gate, const Tensor &h) {
    ctx->save_for_backward({gate, h});
    return run(x, gate, h);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto gate = saved[0], h = saved[1];
    if (at::GradMode::is_enabled()) {
      auto all = again([](const variable_list &v) { return v[0] * v[1]; }, {gate, h}, grads[0]);
      return {grads[0], all[0], all[1]};
    }
    const auto g = grads[0].contiguous(), w = vectors(gate);
    const auto batch = h.size(0), tokens = h.size(1), width = h.size(2);
    auto dh = at::empty_like(h), dgate = at::empty(gate.sizes(), gate.options());
    const auto n = tokens * width;
    each(batch, n, [&](int64_t from, int64_t to) {
      Read grad, gates, added;
      Write slope, opened;
      for (auto b = from; b < to; ++b) {
        kernels().gated_backward(grad(g, b * n, n), gates(w, b * w.stride(0), width), added(h, b * n, n), slope(dh, b * n, n),
                                 opened(dgate, b * width, width), tokens, width);
        slope.done();
        opened.done();
      }
    });
    return {g, dgate, dh};
  }
};

// Pixels [B, H W] as rows of channels, by picture and by part of its groups; bf16 passes through f32 in the cache.
struct GroupNorm : torch::autograd::Function<GroupNorm> {
  static Tensor plain(const Tensor &x, const Tensor &gain, const Tensor &offset, int64_t groups, double eps, bool silu) {
    const auto as_map = [](const Tensor &v) { return v.unsqueeze(-1).unsqueeze(-1); };
    const auto y = at::addcmul(as_map(offset), at::group_norm(x.to(at::kFloat), groups, {}, {}, eps), as_map(gain));
    return (silu ? at::silu(y) : y).to(x.scalar_type());
  }
  // A picture's groups are shared out only where there are too few pictures; no group is ever cut, so sums do not depend on it.
  template <class F> static void parts(const Tensor &x, int64_t groups, F work) {
    const auto batch = x.size(0), width = x.size(1), pixels = x.size(2) * x.size(3);
    auto split = batch < 4 ? std::min<int64_t>(groups, 4) : 1;
    while (groups % split != 0) --split;
    each(batch * split, pixels * width / split, [&](int64_t from, int64_t to) {
      const auto some = width / split;
      // What the kernels need, then room for three widened parts.
      std::vector<float> scratch(4 * some + (half(x) ? 3 * pixels * some : 0));
      for (auto i = from; i < to; ++i) work(i / split, i % split * some, some, groups / split, i % split * (groups / split), scratch.data());
    });
  }
  // Channels [c, c + some) of picture b, a row for each pixel.
  static Rows channels(const Tensor &t, int64_t b, int64_t c, int64_t some, float *&free) {
    const auto width = t.size(1), pixels = t.size(2) * t.size(3);
    return Rows(t, b * pixels * width + c, width, pixels, some, free);
  }
  // One row for all pictures, or one each.
  static const float *line(const Tensor &v, int64_t b) { return in(v) + (v.size(0) == 1 ? 0 : b * v.size(1)); }
  static Tensor run(const Tensor &x, const Tensor &gain, const Tensor &offset, int64_t groups, double eps, bool silu, Tensor &mean,
                    Tensor &rstd) {
    auto y = at::empty_like(x);
    mean = at::empty({x.size(0), groups}, gain.options());
    rstd = at::empty({x.size(0), groups}, gain.options());
    const auto a = gain.contiguous(), o = offset.contiguous();
    parts(x, groups, [&](int64_t b, int64_t c, int64_t some, int64_t own, int64_t first, float *scratch) {
      float *free = scratch + 4 * some;
      const Rows from = channels(x, b, c, some, free), to = channels(y, b, c, some, free);
      const auto k = b * groups + first;
      kernels().group_norm(from.read(), line(a, b) + c, line(o, b) + c, to.at(), out(mean) + k, out(rstd) + k, from.count, from.apart(), some,
                           own, static_cast<float>(eps), silu, scratch);
      to.written();
    });
    return y;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &gain, const Tensor &offset, int64_t groups, double eps,
                        bool silu) {
    Tensor mean, rstd;
    auto y = run(x, gain, offset, groups, eps, silu, mean, rstd);
    ctx->save_for_backward({x, gain, offset, mean, rstd});
    ctx->saved_data["groups"] = groups;
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["silu"] = silu;
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto x = saved[0], gain = saved[1], offset = saved[2], mean = saved[3], rstd = saved[4];
    const auto groups = ctx->saved_data["groups"].toInt();
    const auto silu = ctx->saved_data["silu"].toBool();
    if (at::GradMode::is_enabled()) {
      const auto eps = ctx->saved_data["eps"].toDouble();
      auto all = again([&](const variable_list &v) { return plain(v[0], v[1], v[2], groups, eps, silu); }, {x, gain, offset}, grads[0]);
      all.resize(6);
      return all;
    }
    const auto g = grads[0].contiguous(at::MemoryFormat::ChannelsLast), a = gain.contiguous(), o = offset.contiguous();
    const auto batch = x.size(0), width = x.size(1);
    auto dx = at::empty_like(x), dgain = at::empty({batch, width}, gain.options()), doffset = at::empty_like(dgain);
    parts(x, groups, [&](int64_t b, int64_t c, int64_t some, int64_t own, int64_t first, float *scratch) {
      float *free = scratch + 4 * some;
      const Rows grad = channels(g, b, c, some, free), from = channels(x, b, c, some, free), to = channels(dx, b, c, some, free);
      const auto k = b * groups + first;
      kernels().group_norm_backward(grad.read(), from.read(), line(a, b) + c, line(o, b) + c, in(mean) + k, in(rstd) + k, to.at(),
                                    out(dgain) + b * width + c, out(doffset) + b * width + c, from.count, from.apart(), some, own, silu,
                                    scratch);
      to.written();
    });
    const auto summed = [&](const Tensor &d, const Tensor &v) { return v.size(0) == batch ? d : d.sum(0, true); };
    return {dx, summed(dgain, gain), summed(doffset, offset), Tensor(), Tensor(), Tensor()};
  }
};

struct Attention : torch::autograd::Function<Attention> {
  // Offsets of query, key and value of a head within a row of [B, T, 3 D].
  static std::array<int64_t, 3> places(int64_t h, int64_t head, int64_t width, bool heads_first) {
    if (heads_first) return {3 * h * head, (3 * h + 1) * head, (3 * h + 2) * head};
    return {h * head, width + h * head, 2 * width + h * head};
  }
  static Tensor plain(const Tensor &qkv, int64_t heads, bool heads_first) {
    const auto batch = qkv.size(0), tokens = qkv.size(1), width = qkv.size(2) / 3, head = width / heads;
    const auto cut = heads_first ? qkv.view({batch, tokens, heads, 3, head}).permute({3, 0, 2, 1, 4})
                                 : qkv.view({batch, tokens, 3, heads, head}).permute({2, 0, 3, 1, 4});
    const auto parts = cut.unbind(0);
    const auto w = at::softmax(at::matmul(parts[0], parts[1].transpose(-1, -2)) / std::sqrt(static_cast<double>(head)), -1);
    return at::matmul(w, parts[2]).transpose(1, 2).reshape({batch, tokens, width});
  }
  // `slots`: buffers of rows behind the kernel's own scratch.
  template <class F> static void heads_of(const Tensor &qkv, int64_t heads, int64_t slots, F work) {
    const auto batch = qkv.size(0), tokens = qkv.size(1), head = qkv.size(2) / 3 / heads, own = kernels().attention_scratch(tokens, head);
    each(batch * heads, tokens * tokens * 4, [&](int64_t from, int64_t to) {
      std::vector<float> scratch(own + (half(qkv) ? slots * tokens * head : 0));
      for (auto i = from; i < to; ++i) work(i / heads, i % heads, scratch.data(), scratch.data() + own);
    });
  }
  static Tensor run(const Tensor &qkv, int64_t heads, bool heads_first) {
    const auto tokens = qkv.size(1), row = qkv.size(2), width = row / 3, head = width / heads;
    auto y = at::empty({qkv.size(0), tokens, width}, qkv.options());
    const float scale = 1.0 / std::sqrt(static_cast<double>(head));
    heads_of(qkv, heads, 4, [&](int64_t b, int64_t h, float *scratch, float *free) {
      const auto at = places(h, head, width, heads_first);
      const auto from = b * tokens * row;
      const auto part = [&](const Tensor &t, int64_t first) { return Rows(t, first, t.size(2), tokens, head, free); };
      const Rows q = part(qkv, from + at[0]), k = part(qkv, from + at[1]), v = part(qkv, from + at[2]);
      const Rows to = part(y, b * tokens * width + h * head);
      kernels().attention(q.read(), k.read(), v.read(), q.apart(), to.at(), to.apart(), tokens, head, scale, scratch);
      to.written();
    });
    return y;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &qkv, int64_t heads, bool heads_first) {
    ctx->save_for_backward({qkv});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["heads_first"] = heads_first;
    return run(qkv, heads, heads_first);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto qkv = ctx->get_saved_variables()[0];
    const auto heads = ctx->saved_data["heads"].toInt();
    const auto heads_first = ctx->saved_data["heads_first"].toBool();
    if (at::GradMode::is_enabled()) {
      auto all = again([&](const variable_list &v) { return plain(v[0], heads, heads_first); }, {qkv}, grads[0]);
      return {all[0], Tensor(), Tensor()};
    }
    const auto g = grads[0].contiguous();
    const auto tokens = qkv.size(1), row = qkv.size(2), width = row / 3, head = width / heads;
    auto d = at::empty_like(qkv);
    const float scale = 1.0 / std::sqrt(static_cast<double>(head));
    heads_of(qkv, heads, 7, [&](int64_t b, int64_t h, float *scratch, float *free) {
      const auto at = places(h, head, width, heads_first);
      const auto from = b * tokens * row;
      const auto part = [&](const Tensor &t, int64_t first) { return Rows(t, first, t.size(2), tokens, head, free); };
      const Rows q = part(qkv, from + at[0]), k = part(qkv, from + at[1]), v = part(qkv, from + at[2]);
      const Rows dq = part(d, from + at[0]), dk = part(d, from + at[1]), dv = part(d, from + at[2]);
      const Rows grad = part(g, b * tokens * width + h * head);
      kernels().attention_backward(grad.read(), grad.apart(), q.read(), k.read(), v.read(), q.apart(), dq.at(), dk.at(), dv.at(), tokens, head,
                                   scale, scratch);
      for (const auto *r : {&dq, &dk, &dv}) r->written();
    });
    return {d, Tensor(), Tensor()};
  }
};

// A convolution of kernel 3 and padding 1 whose weights learn. What libtorch does well it does: the pass forward and the slope of the input.
struct Conv3 : torch::autograd::Function<Conv3> {
  // Positions whose slopes and inputs pass through all outputs while they lie in the cache.
  static constexpr int64_t SOME = 256;
  static Tensor plain(const Tensor &x, const Tensor &w, const Tensor &b, int64_t stride) { return at::conv2d(x, w, b, stride, 1); }
  static Tensor weights(const Tensor &g, const Tensor &x, const Tensor &w, int64_t stride) {
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
    return plain(x, w, b, stride);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto x = saved[0], w = saved[1];
    const auto stride = ctx->saved_data["stride"].toInt();
    if (at::GradMode::is_enabled()) {
      auto all = again([&](const variable_list &v) { return plain(v[0], v[1], v[2], stride); }, saved, grads[0]);
      return {all[0], all[1], all[2], Tensor()};
    }
    const auto g = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    Tensor dx;
    if (ctx->needs_input_grad(0)) {
      const auto both = {stride, stride};
      dx = std::get<0>(at::convolution_backward(g, x, w, w.size(0), both, {1, 1}, {1, 1}, false, {0, 0}, 1, {true, false, false}));
    }
    return {dx, ctx->needs_input_grad(1) ? weights(g, x, w, stride) : Tensor(), ctx->needs_input_grad(2) ? g.sum({0, 2, 3}) : Tensor(), Tensor()};
  }
};

bool learns(std::initializer_list<const Tensor *> all) {
  if (!at::GradMode::is_enabled()) return false;
  for (const auto *t : all)
    if (t->requires_grad()) return true;
  return false;
}
} // namespace

extern "C" {
int pshim_fused_takes(at::Tensor *const *a, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const Tensor &t = *a[i];
    const bool kind = t.scalar_type() == at::kFloat || half(t);
    // A tangent of forward-mode differentiation would be lost.
    if (!t.device().is_cpu() || !kind || t._fw_grad(0).defined()) return 0;
  }
  return 1;
}

int pshim_gelu(at::Tensor *x, at::Tensor **y) {
  return guarded([&] {
    const auto a = x->contiguous();
    *y = new Tensor(learns({x}) ? Gelu::apply(a) : Gelu::run(a));
  });
}

int pshim_own_products() { return own_products(); }

int pshim_panels(at::Tensor *w, at::Tensor **laid) {
  return guarded([&] { *laid = new Tensor(Panels::of_rows(*w).laid); });
}

int pshim_linear_frozen(at::Tensor *x, at::Tensor *w, at::Tensor *laid, at::Tensor *bias, at::Tensor **y) {
  return guarded([&] {
    auto shape = x->sizes().vec();
    shape.back() = w->size(0);
    const auto rows = x->reshape({-1, w->size(1)}).contiguous();
    const auto made = at::empty({rows.size(0), w->size(0)}, rows.options());
    if (laid)
      multiply_many(rows, Panels(*laid, w->size(0), w->size(1)), bias, made);
    else
      linear_few(rows, *w, *bias, made);
    *y = new Tensor(made.view(shape));
  });
}

int pshim_linear(at::Tensor *x, at::Tensor *w, at::Tensor *b, at::Tensor **y) {
  return guarded([&] {
    auto shape = x->sizes().vec();
    shape.back() = w->size(0);
    const auto rows = x->reshape({-1, w->size(1)}).contiguous();
    *y = new Tensor((learns({x, w, b}) ? Linear::apply(rows, *w, *b) : Linear::run(rows, *w, *b)).view(shape));
  });
}

int pshim_perceptron_takes() { return own_products() && !at::autocast::is_autocast_enabled(at::kCPU); }

int pshim_perceptron(at::Tensor *x, at::Tensor *const *layers, size_t n, int64_t squash, at::Tensor **y) {
  return guarded([&] {
    variable_list all;
    bool learning = learns({x});
    for (size_t i = 0; i < n; ++i) {
      all.push_back(*layers[i]);
      learning = learning || learns({layers[i]});
    }
    const auto rows = x->contiguous();
    *y = new Tensor(learning ? Perceptron::apply(rows, at::TensorList(all), squash) : Perceptron::run(rows, all, squash, false).back());
  });
}

int pshim_mlp_takes(int64_t rows, int64_t width) {
  return !at::autocast::is_autocast_enabled(at::kCPU) && rows >= std::max(2 * Mlp::some(width), Mlp::FEWEST * at::get_num_threads());
}

int pshim_mlp(at::Tensor *x, at::Tensor *w1, at::Tensor *b1, at::Tensor *w2, at::Tensor *b2, at::Tensor **y) {
  return guarded([&] {
    auto shape = x->sizes().vec();
    shape.back() = w2->size(0);
    const auto rows = x->reshape({-1, x->size(-1)}).contiguous();
    const auto made = learns({x, w1, b1, w2, b2}) ? Mlp::apply(rows, *w1, *b1, *w2, *b2) : Mlp::run(rows, *w1, *b1, *w2, *b2, nullptr);
    *y = new Tensor(made.view(shape));
  });
}

int pshim_adaln(at::Tensor *x, at::Tensor *shift, at::Tensor *scale, double eps, at::Tensor **y) {
  return guarded([&] {
    const auto a = x->contiguous();
    Tensor mean, rstd;
    *y = new Tensor(learns({x, shift, scale}) ? AdaLn::apply(a, *shift, *scale, eps) : AdaLn::run(a, *shift, *scale, eps, mean, rstd));
  });
}

int pshim_gated(at::Tensor *x, at::Tensor *gate, at::Tensor *h, at::Tensor **y) {
  return guarded([&] {
    const auto a = x->contiguous(), b = h->contiguous();
    *y = new Tensor(learns({x, gate, h}) ? Gated::apply(a, *gate, b) : Gated::run(a, *gate, b));
  });
}

int pshim_group_norm(at::Tensor *x, at::Tensor *gain, at::Tensor *offset, int64_t groups, double eps, int silu, at::Tensor **y) {
  return guarded([&] {
    Tensor mean, rstd;
    const bool f = silu != 0;
    *y = new Tensor(learns({x, gain, offset}) ? GroupNorm::apply(*x, *gain, *offset, groups, eps, f)
                                              : GroupNorm::run(*x, *gain, *offset, groups, eps, f, mean, rstd));
  });
}

int pshim_conv3_takes(at::Tensor *w) {
  const bool learning = at::GradMode::is_enabled() && w->requires_grad();
  return learning && !at::autocast::is_autocast_enabled(at::kCPU) && w->is_contiguous(at::MemoryFormat::ChannelsLast) &&
         w->size(1) % kernels().lanes == 0;
}

int pshim_conv3(at::Tensor *x, at::Tensor *w, at::Tensor *b, int64_t stride, at::Tensor **y) {
  return guarded([&] { *y = new Tensor(Conv3::apply(x->contiguous(at::MemoryFormat::ChannelsLast), *w, *b, stride)); });
}

int pshim_attention(at::Tensor *qkv, int64_t heads, int heads_first, at::Tensor **y) {
  return guarded([&] {
    const auto a = qkv->contiguous();
    const bool first = heads_first != 0;
    *y = new Tensor(learns({qkv}) ? Attention::apply(a, heads, first) : Attention::run(a, heads, first));
  });
}
}
