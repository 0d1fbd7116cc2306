// The one pool of threads. Work is cut in chunks that depend on shapes only, never on the number of threads:
// that, and fixed-order sums, is why results have the same bits for any --threads.
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace qfm {

// Threads used by parallel_for, the caller included. n = 0: all cores that this process may run on.
// Not to be called while a parallel_for runs. Throws Error for n < 0 or n > 1024.
void set_threads(int n);
int threads();

namespace detail {
void parallel_run(int64_t chunks, void (*call)(void*, int64_t), void* context);
}

// Calls f(i) once for each i in [0, chunks), on any thread, in any order; returns when all are done.
// The first exception thrown by f is rethrown here after the others have ended. A nested call runs serially.
template <class F>
void parallel_for(int64_t chunks, F&& f) {
  using Fn = std::remove_reference_t<F>;
  detail::parallel_run(
      chunks, [](void* context, int64_t i) { (*static_cast<Fn*>(context))(i); },
      const_cast<void*>(static_cast<const void*>(std::addressof(f))));
}

}  // namespace qfm
