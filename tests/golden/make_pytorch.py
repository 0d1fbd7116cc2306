"""Writes pytorch/: files of torch.save with known numbers, and small Vision Transformers under the names of Hugging Face and
torchvision with what they make of an image; patch embeddings resampled by timm.

  pip install torch torchvision transformers timm safetensors
  python3 make_pytorch.py
"""
import os
from collections import OrderedDict

import safetensors.torch
import torch
import torchvision
import transformers

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pytorch")
os.makedirs(folder, exist_ok=True)
eighths = lambda *shape: torch.arange(torch.Size(shape).numel()).reshape(shape) / 8 - 1

both = eighths(2, 5)
tensors = OrderedDict(
    f32=eighths(2, 3), f16=eighths(4).half(), bf16=eighths(4).bfloat16(), f64=eighths(3).double(),
    turned=eighths(2, 3, 4).permute(2, 0, 1), column=both[:, 3], row=both[1], parameter=torch.nn.Parameter(eighths(2)),
    empty=torch.zeros(0, 4), num_batches_tracked=torch.tensor(7), flags=torch.tensor([True, False]))
wrapped = {"epoch": 3, "loss": 0.5, "note": "a text", "seen": [1, (2, None, True)], "state_dict": OrderedDict(("module." + k, v) for k, v in tensors.items())}
torch.save(wrapped, os.path.join(folder, "zip.pth"))
torch.save(wrapped, os.path.join(folder, "bare.pth"), _use_new_zipfile_serialization=False)
torch.save(wrapped, os.path.join(folder, "protocol4.pth"), pickle_protocol=4)
torch.save({"model": torch.nn.Linear(2, 3)}, os.path.join(folder, "whole_module.pth"))  # pickles a class: refused

torch.manual_seed(3)
sizes = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=12, patch_size=4, initializer_range=0.5)
image = torch.randn(1, 3, 12, 12)
expected = {"image": image}


def write(name, model, tokens):
    model.eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p).mul(0.2).add(1.0 if p.dim() == 1 and p.abs().mean() > 0.9 else 0).half().float())
        expected[name] = tokens(model)
    torch.save({k: v.half() for k, v in model.state_dict().items()}, os.path.join(folder, name + ".pth"))


hidden = lambda model: model(image).last_hidden_state
write("vit", transformers.ViTModel(transformers.ViTConfig(**sizes), add_pooling_layer=True), hidden)
write("dinov2", transformers.Dinov2Model(transformers.Dinov2Config(**{k: v for k, v in sizes.items() if k != "intermediate_size"}, mlp_ratio=4)), hidden)
vision = torchvision.models.VisionTransformer(12, 4, 2, 3, 12, 48, num_classes=5)


def torchvision_tokens(m):
    x = m._process_input(image)
    return m.encoder(torch.cat([m.class_token, x], 1))


write("torchvision", vision, torchvision_tokens)
# As Hugging Face writes files, which is not as it has the names in memory.
transformers.ViTForImageClassification(transformers.ViTConfig(**sizes)).save_pretrained(folder)
saved = safetensors.torch.load_file(os.path.join(folder, "model.safetensors"))
print(sorted(saved)[:30])
for name in os.listdir(folder):
    if name in ("model.safetensors", "config.json"):
        os.remove(os.path.join(folder, name))
inner = torch.load(os.path.join(folder, "vit.pth"), weights_only=True)


def file_name(name):  # of a name in memory
    for a, b in (("layers.", "encoder.layer."), (".attention.q_proj", ".attention.attention.query"), (".attention.k_proj", ".attention.attention.key"),
                 (".attention.v_proj", ".attention.attention.value"), (".attention.o_proj", ".attention.output.dense"),
                 (".mlp.fc1", ".intermediate.dense"), (".mlp.fc2", ".output.dense")):
        name = name.replace(a, b)
    return "vit." + name


renamed = {file_name(k): v for k, v in inner.items() if not k.startswith("pooler")}
missing = set(renamed) ^ {k for k in saved if not k.startswith("classifier")}
assert not missing, missing
torch.save(renamed, os.path.join(folder, "vit_as_saved.pth"))
safetensors.torch.save_file({k: v.contiguous() for k, v in expected.items()}, os.path.join(folder, "expected.safetensors"))

# Patch embeddings for patches of another size, as timm has them.
from timm.layers import resample_patch_embed

patches = {}
for old, new in ((4, 8), (16, 14), (14, 16)):
    patches[f"from.{old}.{new}"] = weight = torch.randn(2, 3, old, old)
    patches[f"to.{old}.{new}"] = resample_patch_embed(weight, [new, new])
safetensors.torch.save_file({k: v.contiguous() for k, v in patches.items()}, os.path.join(folder, "patches.safetensors"))
