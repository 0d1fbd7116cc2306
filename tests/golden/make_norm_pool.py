"""Writes norm_pool.safetensors: batch normalisation (three training steps and an evaluation after them, with residual and
activation) and pooling by PyTorch, in F64, forward and gradients."""
import os, sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(18)
tensors = {}


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def keep(name, **of):
    tensors.update({f"{name}.{key}": x.detach().contiguous() for key, x in of.items()})


def batchnorm(name, activation, with_residual, channels=3, offset=0.0):
    norm = torch.nn.BatchNorm2d(channels).double()
    norm.weight.data, norm.bias.data = draw(channels), draw(channels)
    keep(name, weight=norm.weight, bias=norm.bias)
    for step in ("0", "1", "2", "eval"):
        norm.train(step != "eval")
        norm.zero_grad()
        x = (draw(2, channels, 4, 5) + offset).requires_grad_()
        residual = draw(2, channels, 4, 5).requires_grad_()
        y = norm(x)
        y = activation(y + residual if with_residual else y)
        dy = draw(*y.shape)
        y.backward(dy)
        keep(f"{name}.{step}", x=x, y=y, dy=dy, dx=x.grad, dweight=norm.weight.grad, dbias=norm.bias.grad)
        if with_residual:
            keep(f"{name}.{step}", residual=residual, dresidual=residual.grad)
    keep(name, running_mean=norm.running_mean, running_var=norm.running_var)


def pool(name, function, height=9, width=11):
    x = draw(2, 3, height, width).requires_grad_()
    y = function(x)
    dy = draw(*y.shape)
    y.backward(dy)
    keep(name, x=x, y=y, dy=dy, dx=x.grad)


batchnorm("bn", lambda v: v, False)
batchnorm("bn_far", lambda v: v, False, 2, 30.0)
batchnorm("bn_relu", F.relu, True)
batchnorm("bn_relu6", F.relu6, False)
batchnorm("bn_silu", F.silu, True)
pool("max", lambda x: F.max_pool2d(x, 3, 2, 1))
pool("max_dilated", lambda x: F.max_pool2d(x, (2, 3), (2, 1), (0, 1), (3, 2)))
pool("mean", lambda x: F.avg_pool2d(x, 3, 2, 1))
pool("mean_inside", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
pool("adaptive_1x1", lambda x: F.adaptive_avg_pool2d(x, 1))
pool("adaptive_4x3", lambda x: F.adaptive_avg_pool2d(x, (4, 3)))
pool("adaptive_13x5", lambda x: F.adaptive_avg_pool2d(x, (13, 5)))

out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "norm_pool.safetensors")
save_file(tensors, out, metadata={"made_by": f"tests/golden/make_norm_pool.py, PyTorch {torch.__version__}"})
