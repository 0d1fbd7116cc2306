// How attention's forward is cut in tasks.
#pragma once
#include <algorithm>

#include "engine/base/error.h"
#include "engine/base/threads.h"
#include "kernels/attention/attention_head.h"

namespace qfm {

inline void check_attention(const AttentionShape& s) {
  QFM_CHECK(s.batch >= 0 && s.queries >= 0 && s.heads > 0 && s.keys > 0 && s.head_dim > 0,
            "attention: batch ", s.batch, ", heads ", s.heads, ", queries ", s.queries, ", keys ", s.keys,
            ", head_dim ", s.head_dim);
}

// f(head of all images, first query, last query). Few heads (a batch of one) are cut in blocks of queries as well,
// though each block packs the keys and values again.
template <class F>
void for_head_blocks(const AttentionShape& s, F&& f) {
  check_attention(s);
  constexpr int64_t block_queries = 42;
  const int64_t tasks = 3 * threads(), heads = s.batch * s.heads;
  const int64_t most = (s.queries + block_queries - 1) / block_queries;
  const int64_t blocks = std::min(most, std::max<int64_t>(1, tasks / std::max<int64_t>(1, heads)));
  parallel_for(heads * blocks, [&](int64_t task) {
    const int64_t block = task % blocks;
    f(task / blocks, s.queries * block / blocks, s.queries * (block + 1) / blocks);
  });
}

}  // namespace qfm
