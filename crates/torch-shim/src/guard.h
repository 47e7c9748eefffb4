// What every entry point of the shim returns: 0, or 1 with the message in pshim_error().
#pragma once
#include <ATen/ATen.h>
#include <string>

namespace pshim {
std::string &last_error();
} // namespace pshim

template <class F> int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const c10::Error &e) {
    pshim::last_error() = e.what_without_backtrace();
  } catch (const std::exception &e) {
    pshim::last_error() = e.what();
  }
  return 1;
}
