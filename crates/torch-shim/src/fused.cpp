// Fused layers on the CPU in f32, each with its own backward pass. A second derivative runs through libtorch's own operations.
#include "guard.h"
#include "kernels.h"
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <cmath>
#include <functional>

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
  at::parallel_for(0, n, std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, floats)), work);
}

// Gradients that can be differentiated again: the plain form on the saved inputs, under autograd.
template <class F> variable_list again(F plain, const variable_list &inputs, const Tensor &g) {
  at::AutoGradMode on(true);
  return torch::autograd::grad({plain(inputs)}, inputs, {g}, /*retain_graph=*/true, /*create_graph=*/true, /*allow_unused=*/true);
}

// Rows of D floats that may lie any distance apart, one a sample: [B, 1, D] or [B, D].
Tensor vectors(const Tensor &t) { return t.stride(-1) == 1 ? t : t.contiguous(); }
const float *row(const Tensor &t, int64_t b) { return in(t) + b * t.stride(0); }

struct Gelu : torch::autograd::Function<Gelu> {
  static Tensor run(const Tensor &x) {
    auto y = at::empty_like(x);
    each(x.numel(), 1, [&](int64_t a, int64_t b) { kernels().gelu(in(x) + a, out(y) + a, b - a); });
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
    each(x.numel(), 1, [&](int64_t a, int64_t b) { kernels().gelu_backward(in(g) + a, in(x) + a, out(dx) + a, b - a); });
    return {dx};
  }
};

struct AdaLn : torch::autograd::Function<AdaLn> {
  static Tensor plain(const Tensor &x, const Tensor &shift, const Tensor &scale, double eps) {
    return at::addcmul(shift, at::layer_norm(x, {x.size(-1)}, {}, {}, eps), scale + 1.0);
  }
  static Tensor run(const Tensor &x, const Tensor &shift, const Tensor &scale, double eps, Tensor &mean, Tensor &rstd) {
    const auto batch = x.size(0), tokens = x.size(1), width = x.size(2);
    auto y = at::empty_like(x);
    mean = at::empty({batch, tokens}, x.options());
    rstd = at::empty({batch, tokens}, x.options());
    const auto a = vectors(shift), s = vectors(scale);
    each(batch, tokens * width, [&](int64_t from, int64_t to) {
      for (auto b = from; b < to; ++b)
        kernels().adaln(in(x) + b * tokens * width, row(a, b), row(s, b), out(y) + b * tokens * width, out(mean) + b * tokens,
                        out(rstd) + b * tokens, tokens, width, static_cast<float>(eps));
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
    auto dx = at::empty_like(x), dshift = at::empty(shift.sizes(), x.options()), dscale = at::empty(scale.sizes(), x.options());
    each(batch, tokens * width, [&](int64_t from, int64_t to) {
      for (auto b = from; b < to; ++b)
        kernels().adaln_backward(in(g) + b * tokens * width, in(x) + b * tokens * width, row(s, b), in(mean) + b * tokens,
                                 in(rstd) + b * tokens, out(dx) + b * tokens * width, out(dshift) + b * width, out(dscale) + b * width,
                                 tokens, width);
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
      for (auto b = from; b < to; ++b) {
        const auto first = b * tokens * width;
        kernels().gated(in(x) + first, row(w, b), in(h) + first, out(y) + first, tokens, width);
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
    auto dh = at::empty_like(h), dgate = at::empty(gate.sizes(), h.options());
    each(batch, tokens * width, [&](int64_t from, int64_t to) {
      for (auto b = from; b < to; ++b) {
        const auto first = b * tokens * width;
        kernels().gated_backward(in(g) + first, row(w, b), in(h) + first, out(dh) + first, out(dgate) + b * width, tokens, width);
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
      std::vector<float> scratch(4 * some + (x.scalar_type() == at::kBFloat16 ? 3 * pixels * some : 0));
      for (auto i = from; i < to; ++i) work(i / split, i % split * some, some, groups / split, i % split * (groups / split), scratch.data());
    });
  }
  // Channels [c, c + some) of picture b as f32 rows: in place, or widened into `buffer`.
  struct Rows {
    const Tensor &t;
    int64_t width, pixels, some;
    bool half;
    float *buffer;
    // `slot` numbers the buffers behind the kernels' own scratch.
    Rows(const Tensor &t, int64_t some, float *scratch, int64_t slot)
        : t(t), width(t.size(1)), pixels(t.size(2) * t.size(3)), some(some), half(t.scalar_type() == at::kBFloat16),
          buffer(scratch + 4 * some + (half ? slot * pixels * some : 0)) {}
    int64_t row() const { return half ? some : width; }
    unsigned short *bits(int64_t b, int64_t c, int64_t p) const {
      return static_cast<unsigned short *>(t.data_ptr()) + (b * pixels + p) * width + c;
    }
    float *at(int64_t b, int64_t c) { return half ? buffer : t.data_ptr<float>() + b * pixels * width + c; }
    const float *read(int64_t b, int64_t c) {
      for (int64_t p = 0; half && p < pixels; ++p) kernels().widen(bits(b, c, p), buffer + p * some, some);
      return at(b, c);
    }
    void written(int64_t b, int64_t c) {
      for (int64_t p = 0; half && p < pixels; ++p) kernels().narrow(buffer + p * some, bits(b, c, p), some);
    }
  };
  // One row for all pictures, or one each.
  static const float *line(const Tensor &v, int64_t b) { return in(v) + (v.size(0) == 1 ? 0 : b * v.size(1)); }
  static Tensor run(const Tensor &x, const Tensor &gain, const Tensor &offset, int64_t groups, double eps, bool silu, Tensor &mean,
                    Tensor &rstd) {
    auto y = at::empty_like(x);
    mean = at::empty({x.size(0), groups}, gain.options());
    rstd = at::empty({x.size(0), groups}, gain.options());
    const auto a = gain.contiguous(), o = offset.contiguous();
    parts(x, groups, [&](int64_t b, int64_t c, int64_t some, int64_t own, int64_t first, float *scratch) {
      Rows from(x, some, scratch, 0), to(y, some, scratch, 1);
      const auto k = b * groups + first;
      kernels().group_norm(from.read(b, c), line(a, b) + c, line(o, b) + c, to.at(b, c), out(mean) + k, out(rstd) + k, from.pixels, from.row(),
                           some, own, static_cast<float>(eps), silu, scratch);
      to.written(b, c);
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
      Rows grad(g, some, scratch, 0), from(x, some, scratch, 1), to(dx, some, scratch, 2);
      const auto k = b * groups + first;
      kernels().group_norm_backward(grad.read(b, c), from.read(b, c), line(a, b) + c, line(o, b) + c, in(mean) + k, in(rstd) + k, to.at(b, c),
                                    out(dgain) + b * width + c, out(doffset) + b * width + c, from.pixels, from.row(), some, own, silu,
                                    scratch);
      to.written(b, c);
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
  template <class F> static void heads_of(const Tensor &qkv, int64_t heads, F work) {
    const auto batch = qkv.size(0), tokens = qkv.size(1), head = qkv.size(2) / 3 / heads;
    each(batch * heads, tokens * tokens * 4, [&](int64_t from, int64_t to) {
      std::vector<float> scratch(kernels().attention_scratch(tokens, head));
      for (auto i = from; i < to; ++i) work(i / heads, i % heads, scratch.data());
    });
  }
  static Tensor run(const Tensor &qkv, int64_t heads, bool heads_first) {
    const auto tokens = qkv.size(1), row = qkv.size(2), width = row / 3, head = width / heads;
    auto y = at::empty({qkv.size(0), tokens, width}, qkv.options());
    const float scale = 1.0 / std::sqrt(static_cast<double>(head));
    heads_of(qkv, heads, [&](int64_t b, int64_t h, float *scratch) {
      const auto [q, k, v] = places(h, head, width, heads_first);
      const float *x = in(qkv) + b * tokens * row;
      kernels().attention(x + q, x + k, x + v, row, out(y) + b * tokens * width + h * head, width, tokens, head, scale, scratch);
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
    heads_of(qkv, heads, [&](int64_t b, int64_t h, float *scratch) {
      const auto [q, k, v] = places(h, head, width, heads_first);
      const float *x = in(qkv) + b * tokens * row;
      float *to = out(d) + b * tokens * row;
      kernels().attention_backward(in(g) + b * tokens * width + h * head, width, x + q, x + k, x + v, row, to + q, to + k, to + v, tokens,
                                   head, scale, scratch);
    });
    return {d, Tensor(), Tensor()};
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
int pshim_fused_takes(at::Tensor *const *a, size_t n, int half) {
  for (size_t i = 0; i < n; ++i) {
    const Tensor &t = *a[i];
    const bool kind = t.scalar_type() == at::kFloat || (half && t.scalar_type() == at::kBFloat16);
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
