"""Writes attention_mask.safetensors: attention under masks by PyTorch's scaled_dot_product_attention, in F64, and the
attention layer of a text transformer (77 tokens, causal) by torch.nn.MultiheadAttention, computed in F64 from F32 numbers
and stored as F32. Key lengths are I32 (B); the causal mask is is_causal, aligned at the upper left."""
import os, sys

import torch
from safetensors.torch import save_file
from torch.nn.functional import scaled_dot_product_attention

torch.manual_seed(20)
tensors = {}


def attention(name, batch, heads, queries, keys, d, causal, lengths):
    q, k, v = (torch.randn(batch, heads, n, d, dtype=torch.float64, requires_grad=True) for n in (queries, keys, keys))
    dy = torch.randn(batch, heads, queries, d, dtype=torch.float64)
    if lengths and causal:  # PyTorch takes one of the two
        there = torch.arange(keys) < torch.tensor(lengths)[:, None]
        mask = there[:, None, None, :] & torch.ones(queries, keys, dtype=torch.bool).tril()
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    elif lengths:
        there = torch.arange(keys) < torch.tensor(lengths)[:, None]
        y = scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None, :])
    else:
        y = scaled_dot_product_attention(q, k, v, is_causal=causal)
    y.backward(dy)
    packed = lambda x: x.detach().transpose(1, 2).reshape(batch, -1, heads * d)
    of = {"q": packed(q), "kv": torch.cat([packed(k), packed(v)], -1), "y": packed(y), "dy": packed(dy),
          "dq": packed(q.grad), "dkv": torch.cat([packed(k.grad), packed(v.grad)], -1)}
    if lengths:
        of["lengths"] = torch.tensor(lengths, dtype=torch.int32)
    tensors.update({f"{name}.{key}": x.contiguous() for key, x in of.items()})


def text_layer(width, heads, tokens):
    layer = torch.nn.MultiheadAttention(width, heads, batch_first=True)
    torch.nn.init.normal_(layer.in_proj_weight, std=0.3), torch.nn.init.normal_(layer.in_proj_bias, std=0.3)
    torch.nn.init.normal_(layer.out_proj.bias, std=0.3)
    layer = layer.double()
    x = torch.randn(1, tokens, width).double().requires_grad_()
    dy = torch.randn(1, tokens, width).double()
    hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    y, _ = layer(x, x, x, attn_mask=hidden, need_weights=False)
    y.backward(dy)
    of = {"x": x, "dx": x.grad, "y": y, "dy": dy}
    for name, p in layer.named_parameters():
        of |= {name: p, "d" + name: p.grad}
    tensors.update({f"text.{key}": v.detach().float().contiguous() for key, v in of.items()})


attention("self_causal", 2, 2, 7, 7, 5, True, None)
attention("self_padded", 3, 2, 7, 7, 5, False, [3, 7, 1])
attention("self_both", 3, 2, 7, 7, 5, True, [3, 7, 1])
attention("few_queries_causal", 2, 1, 4, 9, 3, True, None)
attention("few_keys_causal", 2, 1, 9, 4, 3, True, None)
attention("cross_padded", 2, 3, 2, 11, 3, False, [5, 10])
text_layer(32, 4, 77)

out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "attention_mask.safetensors")
save_file(tensors, out, metadata={"made_by": f"tests/golden/make_attention_mask.py, PyTorch {torch.__version__}"})
