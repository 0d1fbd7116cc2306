"""Values and gradients of PyTorch's bilinear resize and sampling: tests/golden/sampling.safetensors.

    python tests/golden/make_sampling.py

Needs torch and safetensors. In F64; every case NAME has NAME.x, .y, .dy, .dx and, sampled, .grid and .dgrid. Its name says
the rest: resize.SIZES.corners, sample.SIZES.border.corners (edges and zeros are the others).
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import grid_sample, interpolate

torch.manual_seed(18)
tensors = {}


def number(*shape):
    return torch.randn(*shape, dtype=torch.float32).double()


def keep(name, y, **inputs):
    dy = number(*y.shape)
    y.backward(dy)
    tensors[f"{name}.y"], tensors[f"{name}.dy"] = y.detach(), dy
    for key, value in inputs.items():
        tensors[f"{name}.{key}"], tensors[f"{name}.d{key}"] = value.detach(), value.grad


def resize(channels, size, to):
    for corners in (False, True):
        x = number(2, channels, *size).requires_grad_()
        y = interpolate(x, to, mode="bilinear", align_corners=corners)
        keep(f"resize.{size[0]}x{size[1]}to{to[0]}x{to[1]}.{'corners' if corners else 'edges'}", y, x=x)


def sample(channels, size, to):
    for corners in (False, True):
        for padding in ("zeros", "border"):
            x = number(2, channels, *size).requires_grad_()
            grid = number(2, *to, 2) * 0.7
            # The image's ends, its middle, and places far outside.
            for i, place in enumerate(((-1, -1), (1, 1), (0, 0), (1, -0.5), (-1.5, 0.25), (40, -1000))):
                grid.view(2, -1, 2)[i % 2, i // 2] = torch.tensor(place, dtype=torch.float64)
            grid.requires_grad_()
            y = grid_sample(x, grid, "bilinear", padding, corners)
            keep(f"sample.{size[0]}x{size[1]}.{padding}.{'corners' if corners else 'edges'}", y, x=x, grid=grid)


resize(3, (5, 7), (10, 14))
resize(2, (9, 33), (4, 13))
resize(1, (3, 4), (8, 37))
resize(2, (6, 5), (1, 1))
resize(1, (1, 1), (2, 3))
sample(3, (5, 7), (4, 5))
sample(18, (6, 3), (1, 19))
sample(1, (1, 4), (3, 1))
save_file(tensors, Path(__file__).with_name("sampling.safetensors"))
print(f"{len(tensors)} tensors, torch {torch.__version__}")
