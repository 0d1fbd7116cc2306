"""The same model and step in PyTorch, for a comparison in the same run: ViT + DEIQT decoder, forward and training.

  python3 pytorch_peer.py [--arch small|tiny] [--batch 256] [--seconds 300] [-o FILE.json]
Prints a row a mode: eager and torch.compile, BF16 (autocast with F32 masters for training), attention by SDPA.
Needs torch and timm; qfm itself never does. Modes that do not fit into --seconds are reported as not run.
"""
import argparse, json, statistics, time
import timm, torch
import torch.nn as nn
import torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--arch", default="small", choices=["tiny", "small"])
p.add_argument("--batch", type=int, default=256)
p.add_argument("--seconds", type=float, default=300)
p.add_argument("--device", default="cuda")
p.add_argument("-o", dest="out")
a = p.parse_args()
begin = time.time()
torch.manual_seed(0)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.vit = timm.create_model(f"deit_{a.arch}_patch16_224", num_classes=0)
        d = self.vit.embed_dim
        self.decoder = nn.TransformerDecoderLayer(d, 6, 4 * d, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True)
        self.queries = nn.Parameter(torch.randn(1, 6, d) * 0.02)
        self.head = nn.Linear(d, 1, bias=False)

    def forward(self, x):
        t = self.vit.forward_features(x)
        return self.head(self.decoder(self.queries + t[:, :1], t[:, 1:])).mean(1)[:, 0]


def synchronize():
    if a.device == "cuda": torch.cuda.synchronize()

def milliseconds(step):
    for _ in range(3): step()
    times = []
    for _ in range(9):
        synchronize(); t = time.perf_counter()
        for _ in range(5): step()
        synchronize(); times.append((time.perf_counter() - t) / 5 * 1e3)
    return times

rows = []
def measure(name, batch, make):
    if time.time() - begin > a.seconds:
        rows.append({"name": name, "batch": batch, "not_run": "no time left"}); print(f"{name:34s} batch {batch:4d}  not run: no time left", flush=True)
        return
    if a.device == "cuda": torch.cuda.reset_peak_memory_stats()
    try:
        times = milliseconds(make())
    except Exception as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        rows.append({"name": name, "batch": batch, "not_run": reason}); print(f"{name:34s} batch {batch:4d}  not run: {reason}", flush=True)
        return
    ms = statistics.median(times)
    row = {"name": name, "batch": batch, "median_ms": ms, "min_ms": min(times), "max_ms": max(times), "images_per_s": batch / ms * 1e3}
    if a.device == "cuda": row["peak_mb"] = torch.cuda.max_memory_allocated() >> 20
    rows.append(row)
    print(f"{name:34s} batch {batch:4d} {ms:9.3f} ms [{min(times):.3f}, {max(times):.3f}] {row['images_per_s']:9.0f} images/s", flush=True)

def inference(batch, compiled):
    def make():
        model = Model().to(a.device, torch.bfloat16).eval()
        f = torch.compile(model) if compiled else model
        x = torch.randn(batch, 3, 224, 224, device=a.device, dtype=torch.bfloat16)
        def step():
            with torch.inference_mode(): f(x)
        return step
    return make

def training(batch, compiled):
    def make():
        model = Model().to(a.device).train()
        f = torch.compile(model) if compiled else model
        opt = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
        x, y = torch.randn(batch, 3, 224, 224, device=a.device), torch.rand(batch, device=a.device) * 100
        def step():
            with torch.autocast(a.device, dtype=torch.bfloat16): out = f(x)
            F.smooth_l1_loss(out.float(), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0); opt.step(); opt.zero_grad(set_to_none=True)
        return step
    return make

name = torch.cuda.get_device_name() if a.device == "cuda" else "CPU"
print(f"PyTorch {torch.__version__}, timm {timm.__version__}, {name}, ViT-{a.arch} with decoder, BF16", flush=True)
measure("training, torch.compile", a.batch, training(a.batch, True))
measure("inference, torch.compile", a.batch, inference(a.batch, True))
measure("training, eager", a.batch, training(a.batch, False))
measure("inference, eager", a.batch, inference(a.batch, False))
measure("inference, torch.compile", 1, inference(1, True))
if a.out:
    with open(a.out, "w") as f:
        json.dump({"torch": torch.__version__, "timm": timm.__version__, "device": name, "arch": a.arch, "rows": rows}, f, indent=2)
