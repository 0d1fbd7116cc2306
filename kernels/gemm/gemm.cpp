#include "kernels/gemm/gemm.h"

#include <algorithm>
#include <type_traits>

#include "engine/base/error.h"
#include "engine/base/threads.h"
#include "engine/memory/memory.h"
#include "kernels/common/parallel_loops.h"
#include "kernels/gemm/gemm_block.h"
#include "kernels/gemm/gemm_finish.h"
#include "kernels/reduce/reduce.h"

namespace qfm {
namespace {

void check(const GemmShape& s) {
  QFM_CHECK(s.m >= 0 && s.n >= 0 && s.k >= 0, "gemm: m ", s.m, ", n ", s.n, ", k ", s.k);
}

}  // namespace

// The readable code: what every other path must agree with.
namespace plain {

constexpr int64_t kPanel = 32;

template <class T>
int64_t gemm_panel_columns() {
  return kPanel;
}

template <class T>
int64_t gemm_words(int64_t k) {
  return k;
}

template <class T>
bool gemm_packs_a(const GemmShape&) {
  return false;
}

template <class T>
void gemm_pack_panel(const GemmShape& s, acc<T>* packed, const T* b, int64_t panel, int64_t depth,
                     int64_t step) {
  acc<T>* to = packed + (panel * s.k + depth) * kPanel;
  for (int64_t p = depth; p < depth + step; ++p)
    for (int64_t j = panel * kPanel; j < (panel + 1) * kPanel; ++j)
      *to++ = j < s.n ? static_cast<acc<T>>(s.trans_b ? b[j * s.k + p] : b[p * s.n + j]) : acc<T>{0};
}

template <class T>
int64_t gemm_workspace(const GemmShape&, int64_t, int64_t) {
  return 0;
}

template <class T, class Out>
void gemm_block(const GemmBlock<T, Out>& g) {
  const GemmShape& s = g.shape;
  for (int64_t i = g.row; i < g.row + g.rows; ++i)
    for (int64_t panel = g.panel; panel < g.panel + g.panels; ++panel) {
      const acc<T>* b = g.b + panel * g.panel_step;
      acc<T> sum[kPanel] = {};
      for (int64_t p = 0; p < s.k; ++p) {
        const auto x = static_cast<acc<T>>(s.trans_a ? g.a[p * s.m + i] : g.a[i * s.k + p]);
        for (int64_t j = 0; j < kPanel; ++j) sum[j] += x * b[p * g.depth_step + j];
      }
      const int64_t column = panel * kPanel;
      for (int64_t j = 0; j < kPanel && column + j < s.n; ++j)
        g.c[i * s.n + column + j] = static_cast<Out>(finish(g.epilogue, sum[j], i, column + j, s.n));
    }
}

}  // namespace plain

namespace {

template <class T>
int64_t panels_of(const GemmShape& s) {
  const int64_t columns = QFM_BEST_DOT(gemm_panel_columns, T)();
  return (s.n + columns - 1) / columns;
}

template <class T>
size_t packed_bytes(const GemmShape& s) {
  return static_cast<size_t>(panels_of<T>(s) * QFM_BEST_DOT(gemm_panel_columns, T)() *
                             QFM_BEST_DOT(gemm_words, T)(s.k)) *
         sizeof(acc<T>);
}

// Reads b in the order of its storage: whole panels if transposed, else all panels of some rows.
template <class T>
void pack(const GemmShape& s, acc<T>* packed, const T* b) {
  constexpr int64_t task = 32768, few = 4;  // elements of a task; rows read side by side
  const auto pack_panel = QFM_BEST_DOT(gemm_pack_panel, T);
  const int64_t panels = panels_of<T>(s), columns = QFM_BEST_DOT(gemm_panel_columns, T)();
  if (s.trans_b) {
    for_ranges(panels, 1 + task / std::max<int64_t>(1, s.k * columns), [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) pack_panel(s, packed, b, panel, 0, s.k);
    });
  } else {
    for_ranges(s.k, few * (1 + task / (few * std::max<int64_t>(1, s.n))), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p += few)
        for (int64_t panel = 0; panel < panels; ++panel)
          pack_panel(s, packed, b, panel, p, std::min(few, end - p));
    });
  }
}

// C in blocks of rows, whose part of A stays in the second level of cache while panels pass, times groups
// of panels: a few tasks for each thread, none too small to be worth handing over. The cut changes no bit
// of the result.
struct Cut {
  static constexpr int64_t kMinRows = 84, kMinProducts = 1 << 18;
  int64_t blocks, groups = 1;
  Cut(const GemmShape& s, int64_t panels, bool packs_a) {
    const int64_t worth = s.m * s.n * s.k / kMinProducts;
    // A block that packs its rows of A does so for each of its groups: rather more blocks.
    const int64_t tasks = std::min<int64_t>(worth, (packs_a ? 4 : 8) * threads());
    blocks = (s.m + kGemmBlockRows - 1) / kGemmBlockRows;
    if (packs_a) blocks = std::max(blocks, std::min(tasks, s.m / kMinRows));
    while (groups < panels && (blocks * groups < tasks || panels % groups != 0)) ++groups;
  }
};

// b: packed, or read where it is.
template <class T, class Out>
void product(const GemmShape& s, Out* c, const T* a, const acc<T>* b, bool packed,
             const GemmEpilogue<T>& epilogue) {
  const auto run_block = QFM_BEST_DOT(gemm_block, T, Out);
  const auto workspace_of = QFM_BEST_DOT(gemm_workspace, T);
  const int64_t panels = panels_of<T>(s), columns = QFM_BEST_DOT(gemm_panel_columns, T)();
  if (s.m == 0 || panels == 0) return;
  const int64_t panel_step = packed ? columns * QFM_BEST_DOT(gemm_words, T)(s.k) : columns,
                depth_step = packed ? columns : s.n;
  const Cut cut(s, panels, QFM_BEST_DOT(gemm_packs_a, T)(s));
  parallel_for(cut.blocks * cut.groups, [&](int64_t task) {
    const int64_t block = task / cut.groups, group = task % cut.groups;
    const int64_t row = s.m * block / cut.blocks, rows = s.m * (block + 1) / cut.blocks - row;
    const int64_t panel = panels * group / cut.groups, count = panels * (group + 1) / cut.groups - panel;
    const Scratch workspace(static_cast<size_t>(workspace_of(s, rows, count)) * sizeof(acc<T>));
    run_block(
        {s, c, a, b, panel_step, depth_step, epilogue, row, rows, panel, count, workspace.as<acc<T>>()});
  });
}

}  // namespace

template <class T>
size_t gemm_packed_bytes(Cpu, GemmShape s) {
  check(s);
  return packed_bytes<T>(s);
}

template <class T>
void gemm_pack(Cpu, GemmShape s, void* packed, const T* b) {
  check(s);
  pack(s, static_cast<acc<T>*>(packed), b);
}

template <class T>
void gemm_with_packed(Cpu, GemmShape s, T* c, const T* a, const void* packed,
                      const GemmEpilogue<T>& epilogue) {
  check(s);
  product(s, c, a, static_cast<const acc<T>*>(packed), true, epilogue);
}

template <class T, class Out>
void gemm(Cpu, GemmShape s, Out* c, const T* a, const T* b, const GemmEpilogue<T>& epilogue) {
  check(s);
  if (epilogue.sum_a) {
    QFM_CHECK(s.trans_a, "gemm: sum_a is for a transposed A only");
    reduce_sum(Cpu{}, {1, s.k, s.m}, epilogue.sum_a, a);
  }
  if constexpr (std::is_same_v<T, acc<T>>)
    if (!s.trans_b && s.n % QFM_BEST_DOT(gemm_panel_columns, T)() == 0)
      return product(s, c, a, b, false, epilogue);
  const Scratch packed(packed_bytes<T>(s));
  pack(s, packed.as<acc<T>>(), b);
  product(s, c, a, packed.as<acc<T>>(), true, epilogue);
}

#define QFM_INSTANTIATE(T)                                                                           \
  template size_t gemm_packed_bytes<T>(Cpu, GemmShape);                                              \
  template void gemm_pack(Cpu, GemmShape, void*, const T*);                                          \
  template void gemm_with_packed(Cpu, GemmShape, T*, const T*, const void*, const GemmEpilogue<T>&); \
  template void gemm(Cpu, GemmShape, T*, const T*, const T*, const GemmEpilogue<T>&);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
template void gemm(Cpu, GemmShape, float*, const bf16*, const bf16*, const GemmEpilogue<bf16>&);
#undef QFM_INSTANTIATE

}  // namespace qfm
