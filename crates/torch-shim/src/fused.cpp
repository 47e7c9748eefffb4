// Fused layers on the CPU, each with its own backward pass. Arithmetic is f32; bf16 is widened and rounded in the cache, on the way in and
// out. A second derivative runs through libtorch's own operations.
#include "layers.h"

#include <array>
#include <cmath>

namespace pshim {
const float EXPONENT_BOUND = 87.0f;
}

namespace {
using namespace pshim;

// n numbers of a tensor, from `first` on, as f32: where they lie, or widened.
struct Read {
  std::vector<float> wide;
  const float *operator()(const Tensor &t, int64_t first, int64_t n) {
    if (!half(t)) return in(t) + first;
    if (static_cast<int64_t>(wide.size()) < n) wide.resize(n);
    kernels().widen(bits(t) + first, n, wide.data(), 1, n);
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
    if (to) kernels().narrow(wide.data(), to, n, 1, n);
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
    if (half(t)) kernels().widen(bits(t) + first, row, room, count, width);
    return at();
  }
  void written() const {
    if (half(t)) kernels().narrow(room, bits(t) + first, row, count, width);
  }
};

// Floats that are widened at a time where a layer may stop anywhere: they stay in the first cache.
constexpr int64_t STRIP = 4096;

// Rows of `width` that make up a strip.
int64_t strip(int64_t width) { return std::max<int64_t>(1, STRIP / width); }

// Rows of D numbers that may lie any distance apart, one a sample: [B, 1, D] or [B, D].
Tensor vectors(const Tensor &t) { return t.stride(-1) == 1 ? t : t.contiguous(); }

} // namespace

namespace pshim {
void gelu(const Tensor &x, const Tensor &y, int64_t from, int64_t to) {
  half(x) ? kernels().gelu_bf16(bits(x) + from, bits(y) + from, to - from) : kernels().gelu(in(x) + from, out(y) + from, to - from);
}

void gelu_slopes(const Tensor &g, const Tensor &x, const Tensor &dx, int64_t from, int64_t to) {
  if (half(x))
    kernels().gelu_backward_bf16(bits(g) + from, bits(x) + from, bits(dx) + from, to - from);
  else
    kernels().gelu_backward(in(g) + from, in(x) + from, out(dx) + from, to - from);
}
} // namespace pshim

namespace {
struct Gelu : torch::autograd::Function<Gelu> {
  static Tensor run(const Tensor &x) {
    auto y = at::empty_like(x);
    each(x.numel(), 1, [&](int64_t a, int64_t b) { pshim::gelu(x, y, a, b); });
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
    each(x.numel(), 1, [&](int64_t a, int64_t b) { gelu_slopes(g, x, dx, a, b); });
    return {dx};
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

// The logarithm of the probability of coins.
struct Bernoulli : torch::autograd::Function<Bernoulli> {
  static Tensor plain(const variable_list &v) { return (v[0] * v[1] - at::softplus(v[1])).sum(1); }
  static Tensor run(const Tensor &x, const Tensor &logits, Tensor *slope) {
    const auto width = x.size(1);
    auto sums = at::empty({x.size(0)}, x.options());
    if (slope) *slope = at::empty_like(x);
    each(x.size(0), width, [&](int64_t a, int64_t b) {
      const auto from = a * width;
      kernels().bernoulli(in(x) + from, in(logits) + from, slope ? out(*slope) + from : nullptr, out(sums) + a, b - a, width);
    });
    return sums;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &logits) {
    Tensor slope;
    auto sums = run(x, logits, &slope);
    ctx->save_for_backward({x, logits, slope});
    return sums;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) return again([](const variable_list &v) { return plain(v); }, {saved[0], saved[1]}, grads[0]);
    const auto g = grads[0].unsqueeze(1);
    const auto wanted = [&](size_t i) { return ctx->needs_input_grad(i); };
    return {wanted(0) ? saved[1] * g : Tensor(), wanted(1) ? saved[2] * g : Tensor()};
  }
};

// KL(q || N(0, I)) of diagonal Gaussians.
struct GaussianKl : torch::autograd::Function<GaussianKl> {
  static Tensor plain(const variable_list &v) { return ((v[0].square() + v[1].exp() - 1 - v[1]) * 0.5).sum(1); }
  static Tensor run(const Tensor &mean, const Tensor &logvar, Tensor &variance) {
    const auto m = vectors(mean), l = vectors(logvar);
    const auto rows = m.size(0), width = m.size(1);
    auto sums = at::empty({rows}, m.options());
    variance = at::empty({rows, width}, m.options());
    each(rows, width, [&](int64_t a, int64_t b) {
      kernels().gaussian_kl(in(m) + a * m.stride(0), m.stride(0), in(l) + a * l.stride(0), l.stride(0), out(variance) + a * width,
                            out(sums) + a, b - a, width);
    });
    return sums;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &mean, const Tensor &logvar) {
    Tensor variance;
    auto sums = run(mean, logvar, variance);
    ctx->save_for_backward({mean, logvar, variance});
    return sums;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) return again([](const variable_list &v) { return plain(v); }, {saved[0], saved[1]}, grads[0]);
    const auto g = grads[0].contiguous(), m = vectors(saved[0]), variance = saved[2];
    auto dm = at::empty_like(variance), dl = at::empty_like(variance);
    const auto width = m.size(1);
    each(m.size(0), width, [&](int64_t a, int64_t b) {
      for (; a < b; ++a) {
        const float slope = in(g)[a], *mean = in(m) + a * m.stride(0), *wide = in(variance) + a * width;
        float *to_mean = out(dm) + a * width, *to_logvar = out(dl) + a * width;
        for (int64_t i = 0; i < width; ++i) {
          to_mean[i] = slope * mean[i];
          to_logvar[i] = 0.5f * slope * (wide[i] - 1.0f);
        }
      }
    });
    return {dm, dl};
  }
};

// Draws of diagonal Gaussians at given numbers.
struct GaussianAt : torch::autograd::Function<GaussianAt> {
  static Tensor plain(const variable_list &v) { return v[0] + (v[1] * 0.5).exp() * v[2]; }
  static Tensor run(const Tensor &mean, const Tensor &logvar, const Tensor &eps, Tensor &spread) {
    const auto m = vectors(mean), l = vectors(logvar), e = eps.contiguous();
    const auto rows = m.size(0), width = m.size(1);
    auto z = at::empty({rows, width}, m.options());
    spread = at::empty_like(z);
    each(rows, width, [&](int64_t a, int64_t b) {
      const auto from = a * width;
      kernels().gaussian_at(in(m) + a * m.stride(0), m.stride(0), in(l) + a * l.stride(0), l.stride(0), in(e) + from, out(spread) + from,
                            out(z) + from, b - a, width);
    });
    return z;
  }
  static Tensor forward(AutogradContext *ctx, const Tensor &mean, const Tensor &logvar, const Tensor &eps) {
    Tensor spread;
    auto z = run(mean, logvar, eps, spread);
    ctx->save_for_backward({mean, logvar, eps, spread});
    return z;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto g = grads[0];
    if (at::GradMode::is_enabled()) return again([](const variable_list &v) { return plain(v); }, {saved[0], saved[1], saved[2]}, g);
    const auto wanted = [&](size_t i) { return ctx->needs_input_grad(i); };
    return {wanted(0) ? g : Tensor(), wanted(1) ? g * saved[3] * 0.5 : Tensor(), wanted(2) ? (saved[1] * 0.5).exp() * g : Tensor()};
  }
};
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

int pshim_bernoulli(at::Tensor *x, at::Tensor *logits, at::Tensor **y) {
  return guarded([&] {
    const auto a = x->contiguous(), b = logits->contiguous();
    *y = new Tensor(learns({x, logits}) ? Bernoulli::apply(a, b) : Bernoulli::run(a, b, nullptr));
  });
}

int pshim_gaussian_kl(at::Tensor *mean, at::Tensor *logvar, at::Tensor **y) {
  return guarded([&] {
    Tensor variance;
    *y = new Tensor(learns({mean, logvar}) ? GaussianKl::apply(*mean, *logvar) : GaussianKl::run(*mean, *logvar, variance));
  });
}

int pshim_gaussian_at(at::Tensor *mean, at::Tensor *logvar, at::Tensor *eps, at::Tensor **y) {
  return guarded([&] {
    Tensor spread;
    *y = new Tensor(learns({mean, logvar, eps}) ? GaussianAt::apply(*mean, *logvar, *eps) : GaussianAt::run(*mean, *logvar, *eps, spread));
  });
}

int pshim_gelu(at::Tensor *x, at::Tensor **y) {
  return guarded([&] {
    const auto a = x->contiguous();
    *y = new Tensor(learns({x}) ? Gelu::apply(a) : Gelu::run(a));
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

int pshim_attention(at::Tensor *qkv, int64_t heads, int heads_first, at::Tensor **y) {
  return guarded([&] {
    const auto a = qkv->contiguous();
    const bool first = heads_first != 0;
    *y = new Tensor(learns({qkv}) ? Attention::apply(a, heads, first) : Attention::run(a, heads, first));
  });
}
}
