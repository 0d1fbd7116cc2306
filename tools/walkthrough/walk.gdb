# The stops of tools/walk. Each prints where we are, the shapes, a few values, and goes on.
set pagination off
set confirm off
set print thread-events off
set print repeats 0
set print frame-arguments none
set startup-with-shell off

define first
  output *$arg0@6
  echo \n
end
document first
first POINTER: the first six values there.
end

tbreak qfm::strided_copy<float>
commands
silent
printf "\n== strided_copy: pixels to rows of patches (kernels/gather/gather.cu)\n"
printf "   images, rows and columns of patches, channels, patch, patch: (%ld, %ld, %ld, %ld, %ld, %ld)\n", whole.size[0], whole.size[1], whole.size[2], whole.size[3], whole.size[4], whole.size[5]
printf "   first pixels, normalised: "
first src
continue
end

tbreak qfm::attention_forward<float>
commands
silent
printf "\n== attention, forward (kernels/attention/attention.cu): o = softmax(q k^T / sqrt(d)) v\n"
printf "   %ld image, %ld heads, %ld queries, %ld keys, head size %ld; rows of q are %ld apart: q, k, v lie side by side\n", s.batch, s.heads, s.queries, s.keys, s.head_dim, q.ld
printf "   q of token 0, head 0: "
first q.data
printf "   k of token 0, head 0: "
first k.data
continue
end

tbreak attention_forward_generic
commands
silent
printf "\n== inside the CUDA kernel attention_forward_generic, on the CPU (kernels/attention/attention_generic.cuh)\n"
printf "   block %u of %u, thread %u of %u: a warp owns one query of one head\n", blockIdx.x, gridDim.x, threadIdx.x, blockDim.x
backtrace 1
tbreak store_row<float>
commands
silent
printf "\n== the same warp, done with its keys: it stores sum_j p_j v_j / sum_j p_j\n"
up-silently
printf "   thread %u, query %u of head %u: largest score %g, sum of exponentials %g\n", threadIdx.x, own.row, own.head, top, sum
printf "   sum of p v, first values: "
first sum_pv
continue
end
continue
end

tbreak qfm::smooth_l1<float>
commands
silent
printf "\n== loss (kernels/loss/loss.cu): SmoothL1 of %ld score; value and gradient at once\n", n
printf "   score %g, opinion %g\n", *prediction, *target
continue
end

tbreak qfm::attention_backward<float>
commands
silent
printf "\n== attention, backward (kernels/attention/attention.cu): dq, dk, dv from do, with the probabilities recomputed from lse\n"
printf "   %ld heads, %ld queries, %ld keys: the decoder's queries look at the patches first, being last in the forward\n", s.heads, s.queries, s.keys
printf "   log-sum-exp of the first queries: "
first lse
printf "   do, first values: "
first d_o.data
printf "   who called: from the loss backwards\n"
backtrace 5
continue
end

run
