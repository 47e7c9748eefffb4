// Work in pieces that threads take as they come free. Cores of a shared machine are not equally fast, and neither are those of a laptop: with
// as many pieces as threads, all would wait for the slowest at the end of every layer.
#pragma once
#include <ATen/Parallel.h>
#include <algorithm>
#include <atomic>
#include <cstdint>

namespace pshim {
// Threads that work from here on can be shared out to.
inline int64_t threads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

// The fewest pieces of at most `some` out of n that threads of one speed share evenly.
inline int64_t pieces(int64_t n, int64_t some) {
  const auto t = threads();
  return std::min(n, ((n + some - 1) / some + t - 1) / t * t);
}

// Calls work(from, to) for every one of the even pieces of [0, n), on libtorch's threads. Which thread takes which is left open, so no sum may
// run over pieces.
template <class F> void in_turns(int64_t n, int64_t pieces, const F &work) {
  std::atomic<int64_t> next{0};
  const auto take = [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) work(n * i / pieces, n * (i + 1) / pieces);
  };
  const auto t = std::min(threads(), pieces);
  at::parallel_for(0, t, 1, take);
}
} // namespace pshim
