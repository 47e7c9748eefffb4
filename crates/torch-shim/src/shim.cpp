// What tch does not reach. Every function returns 0, or 1 with the message in pshim_error().
#include "guard.h"
#include "turns.h"
#include <ATen/autocast_mode.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/Version.h>
#include <algorithm>
#include <string>
#include <vector>

namespace {
std::vector<at::Tensor> list(at::Tensor *const *p, size_t n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (size_t i = 0; i < n; ++i) out.push_back(*p[i]);
  return out;
}
} // namespace

namespace pshim {
std::string &last_error() {
  thread_local std::string text;
  return text;
}
} // namespace pshim

extern "C" {
const char *pshim_error() { return pshim::last_error().c_str(); }

int pshim_autocast_push(int device_type, int scalar_type, int *was_on, int *was_type) {
  return guarded([&] {
    const auto d = static_cast<c10::DeviceType>(device_type);
    *was_on = at::autocast::is_autocast_enabled(d);
    *was_type = static_cast<int>(at::autocast::get_autocast_dtype(d));
    at::autocast::increment_nesting();
    at::autocast::set_autocast_enabled(d, scalar_type >= 0);
    if (scalar_type >= 0) at::autocast::set_autocast_dtype(d, static_cast<at::ScalarType>(scalar_type));
  });
}

int pshim_autocast_pop(int device_type, int was_on, int was_type) {
  return guarded([&] {
    const auto d = static_cast<c10::DeviceType>(device_type);
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(d, was_on);
    at::autocast::set_autocast_dtype(d, static_cast<at::ScalarType>(was_type));
  });
}

int pshim_fused_adamw(at::Tensor *const *p, at::Tensor *const *g, at::Tensor *const *m, at::Tensor *const *v,
                      at::Tensor *const *steps, size_t n, double lr, double beta1, double beta2, double weight_decay, double eps,
                      at::Tensor *grad_scale, at::Tensor *found_inf) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto ps = list(p, n), gs = list(g, n), ms = list(m, n), vs = list(v, n), ss = list(steps, n);
    at::_fused_adamw_(ps, gs, ms, vs, {}, ss, lr, beta1, beta2, weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false,
                      *grad_scale, *found_inf);
  });
}

int pshim_foreach_lerp(at::Tensor *const *a, at::Tensor *const *b, size_t n, double weight) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_foreach_lerp_(list(a, n), list(b, n), weight);
  });
}

int pshim_foreach_mul(at::Tensor *const *a, size_t n, double factor) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_foreach_mul_(list(a, n), factor);
  });
}

int pshim_global_norm(at::Tensor *const *a, size_t n, at::Tensor **out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const auto all = list(a, n);
    std::vector<at::Tensor> norms(n);
    const bool cpu = n > 0 && std::all_of(all.begin(), all.end(), [](const at::Tensor &t) { return t.device().is_cpu(); });
    if (!cpu) {
      norms = at::_foreach_norm(all, 2);
    } else {
      // libtorch takes the norm of a tensor on one thread: several at once.
      at::parallel_for(0, n, 1, [&](int64_t from, int64_t to) {
        at::NoGradGuard unrecorded;
        for (; from < to; ++from) norms[from] = at::linalg_vector_norm(all[from], 2);
      });
    }
    *out = new at::Tensor(at::stack(norms).norm());
  });
}

int pshim_drop_grads(at::Tensor *const *a, size_t n) {
  return guarded([&] {
    for (size_t i = 0; i < n; ++i) a[i]->mutable_grad().reset();
  });
}

int pshim_shares(int64_t n, int64_t few, void (*work)(void *, int64_t, int64_t), void *with) {
  return guarded([&] {
    const at::ThreadLocalState modes;
    pshim::in_turns(n, pshim::pieces(n, few), [&](int64_t a, int64_t b) {
      const at::ThreadLocalStateGuard same(modes);
      work(with, a, b - a);
    });
  });
}

int pshim_channels_last(at::Tensor *a, at::Tensor **out) {
  return guarded([&] { *out = new at::Tensor(a->contiguous(at::MemoryFormat::ChannelsLast)); });
}

int pshim_is_channels_last(at::Tensor *a) { return a->dim() == 4 && a->is_contiguous(at::MemoryFormat::ChannelsLast); }

int pshim_grad_enabled() { return at::GradMode::is_enabled(); }

const char *pshim_cpu_capability() {
  static const std::string s = at::get_cpu_capability();
  return s.c_str();
}

const char *pshim_show_config() {
  static const std::string s = at::show_config() + at::get_parallel_info();
  return s.c_str();
}
}
