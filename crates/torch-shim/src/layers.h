// What layers with their own backward pass share: the kernels of this processor, threads, and gradients of gradients.
#pragma once
#include "guard.h"
#include "kernels.h"
#include "turns.h"
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <functional>
#include <optional>

namespace pshim {
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

inline const pshim::Kernels &kernels() {
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

// Whether this is a processor of the makers of MKL.
inline bool intels() {
#ifdef PSHIM_X86
  static const bool so = [] {
    __builtin_cpu_init();
    return __builtin_cpu_is("intel") != 0;
  }();
  return so;
#else
  return false;
#endif
}

// Whether products in f32 are better left to our own kernel than to MKL: on processors of other makers than MKL's, with vectors to speak of.
inline bool own_products() {
#ifdef PSHIM_X86
  return kernels().lanes >= 8 && !intels();
#else
  return false;
#endif
}

// Whether products in bfloat16 are: likewise, where there is an instruction for them.
inline bool own_bf16() {
#ifdef PSHIM_X86
  static const bool so = own_products() && kernels().lanes == kernels_bf16.lanes && __builtin_cpu_supports("avx512bf16");
  return so;
#else
  return false;
#endif
}

// The kind in which products are asked for now, if those are our own.
inline std::optional<at::ScalarType> own_kind() {
  if (!at::autocast::is_autocast_enabled(at::kCPU)) return own_products() ? std::optional(at::kFloat) : std::nullopt;
  const bool so = own_bf16() && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
  return so ? std::optional(at::kBFloat16) : std::nullopt;
}

// And whether that is f32.
inline bool own_products_now() { return own_kind() == at::kFloat; }

inline bool half(const Tensor &t) { return t.scalar_type() == at::kBFloat16; }
inline unsigned short *bits(const Tensor &t) { return static_cast<unsigned short *>(t.data_ptr()); }
// The kind of our own product of numbers x, if it is one. In bf16 they come to those alone.
inline std::optional<at::ScalarType> own_kind_of(const Tensor &x) {
  return half(x) ? std::optional(at::kBFloat16) : own_products() ? std::optional(at::kFloat) : std::nullopt;
}

inline const float *in(const Tensor &t) { return t.const_data_ptr<float>(); }
inline float *out(const Tensor &t) { return t.mutable_data_ptr<float>(); }

// Below this many floats a thread costs more than it saves.
constexpr int64_t GRAIN = 16384;

inline void each(int64_t n, int64_t floats, const std::function<void(int64_t, int64_t)> &work) {
  const auto t = pshim::threads(), grains = std::max<int64_t>(1, n * floats / GRAIN);
  pshim::in_turns(n, std::min({n, grains, t == 1 ? 1 : 8 * t}), work);
}

// Gradients that can be differentiated again: the plain form on the saved inputs, under autograd.
template <class F> variable_list again(F plain, const variable_list &inputs, const Tensor &g) {
  at::AutoGradMode on(true);
  return torch::autograd::grad({plain(inputs)}, inputs, {g}, /*retain_graph=*/true, /*create_graph=*/true, /*allow_unused=*/true);
}

// Numbers [from, to) of y = gelu(x), and of dx = g gelu'(x), in f32 or bf16.
void gelu(const Tensor &x, const Tensor &y, int64_t from, int64_t to);
void gelu_slopes(const Tensor &g, const Tensor &x, const Tensor &dx, int64_t from, int64_t to);

inline bool learns(std::initializer_list<const Tensor *> all) {
  if (!at::GradMode::is_enabled()) return false;
  for (const auto *t : all)
    if (t->requires_grad()) return true;
  return false;
}
} // namespace pshim
