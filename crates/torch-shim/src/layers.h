// What layers with their own backward pass share: the kernels of this processor, threads, and gradients of gradients.
#pragma once
#include "guard.h"
#include "kernels.h"
#include "turns.h"
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <functional>

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

// And whether nothing asks for them in another kind.
inline bool own_products_now() { return own_products() && !at::autocast::is_autocast_enabled(at::kCPU); }

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

inline bool learns(std::initializer_list<const Tensor *> all) {
  if (!at::GradMode::is_enabled()) return false;
  for (const auto *t : all)
    if (t->requires_grad()) return true;
  return false;
}
} // namespace pshim
