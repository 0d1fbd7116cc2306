"""Writes networks.safetensors beside it: what PyTorch and timm compute for the networks of models/.

  python3 make_networks.py            # needs torch, timm, safetensors, numpy

No weight is stored: each is a formula of its name and index (tests/models/formula.h has the same), rounded to F32. Of each
tensor that is compared a sketch is stored, in F64: its norm, its largest magnitude, and some of its entries at places that
are a formula too. Metadata `cases`: of each case the names of the tensors in order, and how far outputs,
gradients and buffers of a run in F32 are from those in F64 (largest difference of sketches, scaled by the largest magnitude).
Where units are so near to a kink of relu that F32 takes the other side, gradients say something in F64 only.
"""
import json, os
import numpy as np
import safetensors.numpy
import timm
import torch
from torch import nn

GOLDEN = 0x9E3779B97F4A7C15


def numbers(name, n):  # n pseudo-random 64-bit numbers that belong to a name: SplitMix64 from its FNV-1a
    h = 0xCBF29CE484222325
    for ch in name.encode():
        h = ((h ^ ch) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(name, shape):  # in [-1, 1)
    u = (numbers(name, int(np.prod(shape))) >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
    return u.reshape(shape)


def value(name, shape):
    u = uniform(name, shape)
    if name.endswith("running_var"):
        v = 1 + 0.5 * u
    elif name.endswith("running_mean"):
        v = 0.1 * u
    elif len(shape) == 1:
        v = 1 + 0.25 * u if name.endswith("weight") else 0.1 * u
    else:
        v = u * np.sqrt(6 * shape[0] / np.prod(shape))  # He et al. 2015
    return torch.from_numpy(v.astype(np.float32))


def fill(model, dtype):
    state = model.state_dict()
    for name in state:
        if not name.endswith("num_batches_tracked"):
            state[name].copy_(value(name, tuple(state[name].shape)))
    return model.to(dtype)


def sketch(name, tensor, entries):
    flat = tensor.detach().double().flatten().numpy()
    places = numbers(name + " places", entries) % np.uint64(len(flat))
    return np.concatenate([[np.linalg.norm(flat), np.abs(flat).max()], flat[places.astype(np.int64)]])


OUTPUT_ENTRIES, ENTRIES = 256, 8
tensors, cases = {}, {}


def tokens_of(x):
    return x.flatten(2).transpose(1, 2)


def resnet_features(m, x):
    x = m.maxpool(m.act1(m.bn1(m.conv1(x))))
    stages = []
    for level in (m.layer1, m.layer2, m.layer3, m.layer4):
        x = level(x)
        stages.append(x)
    return x, stages


def lite_features(m, x):
    x = m.bn1(m.conv_stem(x))
    levels = []
    for level in m.blocks:
        x = level(x)
        levels.append(x)
    return m.bn2(m.conv_head(x)), [levels[i] for i in (1, 2, 4, 6)]  # strides 4, 8, 16, 32


# One pass forward and backward: {"out.*": (tensor, entries), "grad.*": ..., "buffer.*": ...}
def convnet_run(make, features, image, training, dtype):
    model = fill(make(), dtype).train(training)
    x = torch.from_numpy(uniform("images", image).astype(np.float32)).to(dtype).requires_grad_()
    grid, stages = features(model, x)
    outputs = {"pooled": grid.mean((2, 3)), "tokens": tokens_of(grid), **{f"stage{i}": s for i, s in enumerate(stages)}}
    loss = sum((y * torch.from_numpy(uniform("d" + name, tuple(y.shape)).astype(np.float32)).to(dtype)).sum()
               for name, y in outputs.items())
    loss.backward()
    result = {"out." + name: (y, OUTPUT_ENTRIES) for name, y in outputs.items()}
    result["grad.images"] = (x.grad, OUTPUT_ENTRIES)
    result.update({"grad." + name: (p.grad, ENTRIES) for name, p in model.named_parameters() if p.grad is not None})
    if training:
        result.update({"buffer." + name: (b, ENTRIES) for name, b in model.named_buffers() if "running" in name})
    return result


def add(case, run, about):
    exact, single = run(torch.float64), run(torch.float32)
    loss = {"out": 0.0, "grad": 0.0, "buffer": 0.0}
    for name, (tensor, entries) in exact.items():
        kind = name.split(".")[0]
        if kind in loss:
            a, b = sketch(name, tensor, entries), sketch(name, single[name][0], entries)
            loss[kind] = max(loss[kind], float(np.abs(a - b)[2:].max() / a[1]), float(abs(a[0] - b[0]) / a[0]))
    cases[case] = {**about, "float32_run_scaled_error": loss, "names": list(exact)}
    tensors[case] = np.concatenate([sketch(name, tensor, entries) for name, (tensor, entries) in exact.items()])
    print(case, len(exact), loss, {k: round(float(sketch(k, *v)[1]), 3) for k, v in exact.items() if k.startswith("out")})


def lite():
    model = timm.create_model("tf_efficientnet_lite0")
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.01  # TensorFlow's 0.99, as the published weights were trained
    return model


for arch, make, features, image in (
        ("resnet18", lambda: timm.create_model("resnet18"), resnet_features, (2, 3, 33, 47)),
        ("resnet50", lambda: timm.create_model("resnet50", zero_init_last=False), resnet_features, (2, 3, 33, 33)),
        ("efficientnet-lite0", lite, lite_features, (2, 3, 54, 38))):
    for training in True, False:
        add(f"{arch}.{'train' if training else 'eval'}", lambda dtype: convnet_run(make, features, image, training, dtype), {})



# CLIP's text transformer (Radford et al. 2021) with OpenAI's names, of torch.nn's modules.
class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGelu())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x, mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Text(nn.Module):
    def __init__(self, vocabulary, context, width, layers, heads, out):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, out))

    def forward(self, ids):
        n = ids.shape[1]
        mask = torch.full((n, n), float("-inf"), dtype=self.text_projection.dtype).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding
        for block in self.transformer.resblocks:
            x = block(x, mask)
        tokens = self.ln_final(x)
        return tokens, tokens[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection


def text_ids(batch, context, vocabulary):  # begin, some words, end: the largest id; then zeros
    ids = (numbers("ids", batch * context) % np.uint64(vocabulary - 3) + np.uint64(1)).astype(np.int64).reshape(batch, context)
    for row, end in zip(ids, (3 + numbers("ends", batch) % np.uint64(context - 3)).astype(np.int64)):
        row[0], row[end], row[end + 1:] = vocabulary - 2, vocabulary - 1, 0
    return torch.from_numpy(ids)


TEXT = {"vocabulary": 61, "context": 13, "width": 48, "layers": 3, "heads": 4, "out": 20}


def text_run(dtype):
    model = fill(Text(**TEXT), dtype)
    tokens, pooled = model(text_ids(5, TEXT["context"], TEXT["vocabulary"]))
    loss = sum((y * torch.from_numpy(uniform("d" + name, tuple(y.shape)).astype(np.float32)).to(dtype)).sum()
               for name, y in (("tokens", tokens), ("pooled", pooled)))
    loss.backward()
    return {"out.tokens": (tokens, OUTPUT_ENTRIES), "out.pooled": (pooled, OUTPUT_ENTRIES),
            **{"grad." + name: (p.grad, ENTRIES) for name, p in model.named_parameters()}}


add("text", text_run, {**TEXT, "batch": 5})

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "networks.safetensors")
about = {"cases": json.dumps(cases), "versions": f"torch {torch.__version__}, timm {timm.__version__}"}
safetensors.numpy.save_file(tensors, path, about)
print(os.path.getsize(path), "bytes")
