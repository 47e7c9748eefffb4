// Products in f32 and bf16 by our own kernels, and the layers that are made of them, each with its own backward pass. A second derivative runs
// through libtorch's own operations.
#include "layers.h"

namespace {
using namespace pshim;

// The right side of products in the order in which our own kernel of that kind reads it.
struct Panels {
  Tensor laid;
  int64_t columns, depth;
  // Laid before.
  Panels(const Tensor &laid, int64_t columns, int64_t depth) : laid(laid), columns(columns), depth(depth) {}
  // Column j of the right side is row j of the matrix, which is f32.
  static Panels of_rows(const Tensor &w, at::ScalarType kind) { return Panels(w, kind, w.size(0), w.size(1), w.size(1), 1); }
  // The right side is the matrix.
  static Panels of_columns(const Tensor &w, at::ScalarType kind) { return Panels(w, kind, w.size(1), w.size(0), 1, w.size(1)); }

private:
  Panels(const Tensor &w, at::ScalarType kind, int64_t columns, int64_t depth, int64_t row, int64_t step) : columns(columns), depth(depth) {
    const bool low = kind == at::kBFloat16;
    const auto lanes = low ? kernels_bf16.lanes : kernels().lanes, panel = low ? kernels_bf16.panel : kernels().panel;
    // Pairs in bf16.
    const auto deep = low ? (depth + 1) / 2 * 2 : depth;
    laid = at::empty({(columns + lanes - 1) / lanes * lanes * deep}, w.options().dtype(kind));
    each((columns + panel - 1) / panel, panel * deep, [&](int64_t a, int64_t b) {
      const auto from = a * panel * row, to = a * panel * deep, count = std::min(b * panel, columns) - a * panel;
      if (half(w))
        kernels_bf16.panels_of_rows(bits(w) + from, step, bits(laid) + to, count, depth);
      else if (low)
        kernels_bf16.panels(in(w) + from, row, step, bits(laid) + to, count, depth);
      else
        kernels().panels(in(w) + from, row, step, out(laid) + to, count, depth);
    });
  }
};

// Floats that a thread writes and reads before it asks again.
float *scratch(size_t floats) {
  static thread_local std::vector<float> all;
  if (all.size() < floats) all.resize(floats);
  return all.data();
}

// y [N, H] = start + x [N, D] w, w laid out once: for many rows.
void multiply_many(const Tensor &x, const Panels &w, const Tensor *start, const Tensor &y) {
  // Numbers of x that all panels meet while they lie in the second cache.
  constexpr int64_t SOME = 1 << 16, FEWEST = 48;
  const auto n = x.size(0), columns = w.columns, depth = w.depth;
  const auto *first = start ? in(*start) : nullptr;
  pshim::in_turns(n, pshim::pieces(n, std::max(FEWEST, SOME / depth)), [&](int64_t a, int64_t b) {
    const auto from = a * depth, to = a * columns;
    if (!half(x))
      kernels().multiply(in(x) + from, depth, 1, in(w.laid), first, 0, out(y) + to, columns, b - a, columns, depth);
    else
      kernels_bf16.multiply(bits(x) + from, Left::rows(depth), bits(w.laid), first, 0, bits(y) + to, columns, b - a, columns, depth);
  });
}

// y [N, H] = x [N, D] w^T + bias for few rows, which are laid out instead of the weights [H, D]: the transposed product, turned while it lies in
// the first cache. The same sums.
void linear_few(const Tensor &x, const Tensor &w, const Tensor &bias, const Tensor &y) {
  constexpr int64_t SOME = 4096, FEWEST = 16;
  const auto n = x.size(0), width = w.size(0), depth = w.size(1);
  const auto rows = Panels::of_rows(x, at::kFloat);
  pshim::in_turns(width, pshim::pieces(width, std::max(FEWEST, SOME / n)), [&](int64_t a, int64_t b) {
    const auto lines = b - a;
    std::vector<float> made(lines * n);
    for (int64_t i = 0; i < lines; ++i) std::fill_n(made.data() + i * n, n, in(bias)[a + i]);
    kernels().multiply(in(w) + a * depth, depth, 1, in(rows.laid), made.data(), n, made.data(), n, lines, n, depth);
    kernels().turn(made.data(), n, out(y) + a, width, lines, n);
  });
}

// Weights [H, D] of a linear layer for Strassen's product in Winograd's form (1971): seven products of halves instead of eight, and as the
// weights stand for many passes, their sums are taken once. Rows are taken in twos, so who calls sees to it that two belong together.
struct Strassen {
  static constexpr int64_t PRODUCTS = 7;
  int64_t columns, depth;
  Tensor laid, moved;
  Strassen(const Tensor &laid, const Tensor &moved, int64_t columns, int64_t depth) : columns(columns), depth(depth), laid(laid), moved(moved) {}
  Strassen(const Tensor &w, const Tensor &bias) : columns(w.size(0) / 2), depth(w.size(1) / 2) {
    const auto b = [&](int64_t row, int64_t column) { return w.narrow(0, column * columns, columns).narrow(1, row * depth, depth); };
    const auto b11 = b(0, 0), b12 = b(0, 1), b21 = b(1, 0), b22 = b(1, 1);
    const auto t1 = b12 - b11, t2 = b22 - t1, t3 = b22 - b12, t4 = b21 - t2;
    std::vector<Tensor> all;
    for (const auto &t : {b11, b21, t2, t3, t1, t4, b22}) all.push_back(Panels::of_rows(t.contiguous(), at::kFloat).laid);
    laid = at::cat(all);
    moved = bias.narrow(0, columns, columns) - bias.narrow(0, 0, columns);
  }
  // y [2 pairs, H] = x [2 pairs, D] w^T + bias.
  void to(const float *x, int64_t pairs, const float *bias, float *y) const {
    const auto &k = kernels();
    const auto step = pairs * depth, x_row = 4 * depth, y_row = 4 * columns, side = laid.numel() / PRODUCTS;
    float *s1 = scratch(4 * step + 2 * pairs * columns), *s2 = s1 + step, *s3 = s2 + step, *s4 = s3 + step;
    float *u = s4 + step, *v = u + pairs * columns;
    k.strassen_rows(x, s1, pairs, depth);
    float *c11 = y, *c12 = y + columns, *c21 = y + 2 * columns, *c22 = y + 3 * columns;
    const auto multiply = [&](const float *a, int64_t a_row, int64_t which, const float *start, int64_t start_row, float *c, int64_t c_row) {
      k.multiply(a, a_row, 1, in(laid) + which * side, start, start_row, c, c_row, pairs, columns, depth);
    };
    // Every start but the first is a sum that Winograd's form shares; u carries the bias of the first half of outputs.
    multiply(x, x_row, 0, bias, 0, u, columns);
    multiply(x + depth, x_row, 1, u, columns, c11, y_row);
    multiply(s2, depth, 2, u, columns, u, columns);
    multiply(s3, depth, 3, u, columns, c22, y_row);
    multiply(s1, depth, 4, nullptr, 0, v, columns);
    multiply(x + 3 * depth, x_row, 5, c22, y_row, c21, y_row);
    k.strassen_join(v, in(moved), u, c22, y_row, pairs, columns);
    multiply(s4, depth, 6, u, columns, c12, y_row);
  }
};

// The right side of a product of many rows, for our own kernel or for libtorch's.
struct Right {
  Tensor matrix;
  std::optional<Panels> panels;
  // Of x w^T, for weights w of a linear layer.
  static Right of_layer(const Tensor &w, const Tensor &x) {
    const auto kind = own_kind_of(x);
    return {w.t(), kind ? std::optional(Panels::of_rows(w, *kind)) : std::nullopt};
  }
  // Of g w, the slope of its input.
  static Right of_slope(const Tensor &w, const Tensor &g) {
    const auto kind = own_kind_of(g);
    return {w, kind ? std::optional(Panels::of_columns(w, *kind)) : std::nullopt};
  }
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

// Slopes of a linear layer's weights and bias, dw [H, D] = g^T x and db [H] the sums of g, for slopes g [N, H] of what it made of x [N, D].
struct Learning {
  Tensor g, x, dw, db;
  Learning(const Tensor &g, const Tensor &x, bool weights, bool bias) : g(g), x(x) {
    const auto kind = x.options().dtype(at::kFloat);
    if (weights) dw = at::empty({g.size(1), x.size(1)}, kind);
    if (bias) db = at::empty({g.size(1)}, kind);
  }
};

// Those of several layers, by libtorch's products or, shared out by outputs, our own: g is turned a few outputs and some rows at a time, what lies in the second cache meets x.
void learn(at::ArrayRef<Learning> layers) {
  if (!own_kind_of(layers.front().x)) {
    for (auto [g, x, dw, db] : layers) {
      if (dw.defined()) at::mm_out(dw, g.t(), x);
      if (db.defined()) at::sum_out(db, g, 0);
    }
    return;
  }
  constexpr int64_t OUTPUTS = 64, ROWS = 512;
  struct Task {
    const Learning *layer;
    const std::vector<Panels> *entered;
    int64_t from, to;
  };
  std::vector<std::vector<Panels>> entered(layers.size());
  std::vector<Task> tasks;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto &l = layers[i];
    const auto n = l.g.size(0), outputs = l.g.size(1);
    if (l.dw.defined())
      for (int64_t from = 0; from < n; from += ROWS) entered[i].push_back(Panels::of_columns(l.x.narrow(0, from, std::min(ROWS, n - from)), l.x.scalar_type()));
    if (!l.dw.defined() && !l.db.defined()) continue;
    for (int64_t from = 0; from < outputs; from += OUTPUTS) tasks.push_back({&l, &entered[i], from, std::min(from + OUTPUTS, outputs)});
  }
  const int64_t count = tasks.size();
  pshim::in_turns(count, count, [&](int64_t a, int64_t) {
    const auto &[layer, entered, from, to] = tasks[a];
    const auto &[g, x, dw, db] = *layer;
    const auto n = g.size(0), outputs = g.size(1), depth = x.size(1), rows = to - from;
    // Sums of a depth in bf16 are of pairs, and of eights of outputs.
    auto *turned = scratch((rows + 7) * (std::min(ROWS, n) + 1));
    auto *lefts = reinterpret_cast<unsigned short *>(turned);
    for (int64_t at = 0; at < n; at += ROWS) {
      const auto some = std::min(ROWS, n - at), place = at * outputs + from;
      auto *slope = dw.defined() ? out(dw) + from * depth : nullptr;
      const auto *before = at > 0 ? slope : nullptr;
      float sums[OUTPUTS];
      if (half(g)) {
        kernels_bf16.lefts(bits(g) + place, outputs, lefts, rows, some);
        if (slope) kernels_bf16.multiply_to_floats(lefts, Left::turned(some), bits((*entered)[at / ROWS].laid), before, depth, slope, depth, rows, depth, some);
        if (db.defined()) kernels_bf16.sums(lefts, sums, some, rows);
      } else {
        kernels().turn(in(g) + place, outputs, turned, some, some, rows);
        if (slope) kernels().multiply(turned, some, 1, in((*entered)[at / ROWS].laid), before, depth, slope, depth, rows, depth, some);
        for (int64_t r = 0; db.defined() && r < rows; ++r) sums[r] = kernels().sum(turned + r * some, some);
      }
      for (int64_t r = 0; db.defined() && r < rows; ++r) out(db)[from + r] = at > 0 ? out(db)[from + r] + sums[r] : sums[r];
    }
  });
}

// What libtorch makes of a linear layer in the kind of its rows.
Tensor composed(const Tensor &x, const Tensor &w, const Tensor &b) { return at::linear(x, w.to(x.scalar_type()), b.to(x.scalar_type())); }

// A linear layer over many rows.
struct Linear : torch::autograd::Function<Linear> {
  static Tensor plain(const variable_list &v) { return composed(v[0], v[1], v[2]); }
  static Tensor run(const Tensor &x, const Tensor &w, const Tensor &b) {
    auto y = at::empty({x.size(0), w.size(0)}, x.options());
    Right::of_layer(w, x).to(y, x, &b);
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
    if (ctx->needs_input_grad(0)) Right::of_slope(w, g).to(dx = at::empty_like(x), g);
    const Learning own(g, x, ctx->needs_input_grad(1), ctx->needs_input_grad(2));
    learn(own);
    return {dx, own.dw, own.db};
  }
};

// Linear layers one after another with a function between them, whose slope is that of its result: a few rows pass all of them on one thread,
// there and back, and threads meet once a pass instead of once a layer.
struct Perceptron : torch::autograd::Function<Perceptron> {
  enum Squash : int64_t { RELU, TANH };
  // Rows that pass together.
  static constexpr int64_t ROWS = 64;
  // `v`: x [N, D], then weights [H, D] and bias [H] of every layer.
  static Tensor plain(const variable_list &v, int64_t squash) {
    auto h = composed(v[0], v[1], v[2]);
    for (size_t i = 3; i < v.size(); i += 2) h = composed(squash == RELU ? at::relu(h) : at::tanh(h), v[i], v[i + 1]);
    return h;
  }
  // Layer by layer [N, H], the last what comes out; where nothing learns, the last alone.
  static variable_list run(const Tensor &x, at::TensorList layers, int64_t squash, bool keep) {
    const auto n = x.size(0);
    const auto depth = layers.size() / 2;
    std::vector<Panels> panels;
    variable_list made(depth);
    for (size_t i = 0; i < depth; ++i) {
      panels.push_back(Panels::of_rows(layers[2 * i], x.scalar_type()));
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
      if (i > 0 || ctx->needs_input_grad(0)) panels[i] = Panels::of_columns(weights(i), x.scalar_type());
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
    std::vector<Learning> learning;
    for (size_t i = 0; i < depth; ++i) {
      const auto wanted = [&](size_t k) { return ctx->needs_input_grad(1 + 2 * i + k); };
      learning.emplace_back(slopes[i], entered(i), wanted(0), wanted(1));
    }
    learn(learning);
    variable_list made{dx};
    for (const auto &l : learning) made.insert(made.end(), {l.dw, l.db});
    made.emplace_back();
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
  static Tensor plain(const variable_list &v) { return composed(at::gelu(composed(v[0], v[1], v[2]), "tanh"), v[3], v[4]); }
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
    const auto first = Right::of_layer(w1, x), second = Right::of_layer(w2, x);
    rows(n, x.size(1), [&](auto part) {
      const auto from = part(x);
      auto before = keep ? part((*keep)[0]) : at::empty({from.size(0), hidden}, x.options());
      auto after = keep ? part((*keep)[1]) : before;
      first.to(before, from, &b1);
      gelu(before, after, 0, before.numel());
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
    const auto first = Right::of_slope(w1, x), second = Right::of_slope(w2, x);
    rows(x.size(0), x.size(1), [&](auto part) {
      const auto slope = part(dh), grad = at::empty_like(slope);
      second.to(grad, part(g));
      gelu_slopes(grad, part(h), slope, 0, slope.numel());
      if (dx.defined()) first.to(part(dx), slope);
    });
    const Learning both[] = {{dh, x, wanted(1), wanted(2)}, {g, a, wanted(3), wanted(4)}};
    learn(both);
    return {dx, both[0].dw, both[0].db, both[1].dw, both[1].db};
  }
};

// What `layer` makes of the rows of x [..., D], in the kind of products asked for, as [..., outputs].
template <class F> Tensor over_rows(const Tensor &x, int64_t outputs, F layer) {
  auto shape = x.sizes().vec();
  shape.back() = outputs;
  return layer(x.reshape({-1, x.size(-1)}).to(own_kind().value_or(x.scalar_type())).contiguous()).view(shape);
}
} // namespace

extern "C" {
int pshim_is_intels() { return intels(); }

int pshim_own_products() { return own_products(); }

int pshim_own_bf16() { return own_bf16(); }

// -1 where they are not our own.
int pshim_own_kind() {
  const auto kind = own_kind();
  return kind ? static_cast<int>(*kind) : -1;
}

int pshim_panels(at::Tensor *w, at::Tensor **laid) {
  return guarded([&] { *laid = new Tensor(Panels::of_rows(*w, own_kind().value_or(at::kFloat)).laid); });
}

int pshim_linear_frozen(at::Tensor *x, at::Tensor *w, at::Tensor *laid, at::Tensor *bias, at::Tensor **y) {
  return guarded([&] {
    *y = new Tensor(over_rows(*x, w->size(0), [&](const Tensor &rows) {
      auto made = at::empty({rows.size(0), w->size(0)}, rows.options());
      if (laid)
        multiply_many(rows, Panels(*laid, w->size(0), w->size(1)), bias, made);
      else
        linear_few(rows, *w, *bias, made);
      return made;
    }));
  });
}

int pshim_strassen(at::Tensor *w, at::Tensor *bias, at::Tensor **laid, at::Tensor **moved) {
  return guarded([&] {
    const Strassen all(*w, *bias);
    *laid = new Tensor(all.laid);
    *moved = new Tensor(all.moved);
  });
}

int pshim_linear_strassen(at::Tensor *x, at::Tensor *w, at::Tensor *laid, at::Tensor *moved, at::Tensor *bias, at::Tensor **y) {
  return guarded([&] {
    *y = new Tensor(over_rows(*x, w->size(0), [&](const Tensor &rows) {
      // Numbers of x that pass together, and the fewest pairs of rows.
      constexpr int64_t SOME = 1 << 16, FEWEST = 24;
      const auto pairs = rows.size(0) / 2, depth = rows.size(1), outputs = w->size(0);
      const Strassen right(*laid, *moved, outputs / 2, depth / 2);
      auto made = at::empty({rows.size(0), outputs}, rows.options());
      pshim::in_turns(pairs, pshim::pieces(pairs, std::max(FEWEST, SOME / depth)), [&](int64_t a, int64_t b) {
        right.to(in(rows) + 2 * a * depth, b - a, in(*bias), out(made) + 2 * a * outputs);
      });
      return made;
    }));
  });
}

int pshim_linear(at::Tensor *x, at::Tensor *w, at::Tensor *b, at::Tensor **y) {
  return guarded([&] {
    *y = new Tensor(over_rows(*x, w->size(0), [&](const Tensor &rows) {
      return learns({x, w, b}) ? Linear::apply(rows, *w, *b) : Linear::run(rows, *w, *b);
    }));
  });
}

int pshim_perceptron(at::Tensor *x, at::Tensor *const *layers, size_t n, int64_t squash, at::Tensor **y) {
  return guarded([&] {
    variable_list all;
    bool learning = learns({x});
    for (size_t i = 0; i < n; ++i) {
      all.push_back(*layers[i]);
      learning = learning || learns({layers[i]});
    }
    const auto rows = x->to(own_kind().value_or(x->scalar_type())).contiguous();
    *y = new Tensor(learning ? Perceptron::apply(rows, at::TensorList(all), squash) : Perceptron::run(rows, all, squash, false).back());
  });
}

int pshim_mlp_takes(int64_t rows, int64_t width) {
  const bool takes = own_kind() || !at::autocast::is_autocast_enabled(at::kCPU);
  return takes && rows >= std::max(2 * Mlp::some(width), Mlp::FEWEST * at::get_num_threads());
}

int pshim_mlp(at::Tensor *x, at::Tensor *w1, at::Tensor *b1, at::Tensor *w2, at::Tensor *b2, at::Tensor **y) {
  return guarded([&] {
    *y = new Tensor(over_rows(*x, w2->size(0), [&](const Tensor &rows) {
      return learns({x, w1, b1, w2, b2}) ? Mlp::apply(rows, *w1, *b1, *w2, *b2) : Mlp::run(rows, *w1, *b1, *w2, *b2, nullptr);
    }));
  });
}
}
