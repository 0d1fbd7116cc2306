"""Convolutional networks beside PyTorch on this CPU, eager, F32, in turns: forward passes and training steps.

  python3 pytorch_networks.py --qfm build/qfm [--threads 2] [--rounds 9] [--only resnet50] [-o FILE.json]
A round times each program once a row, qfm first; printed are medians of the rounds in ms a call. qfm's time of a round is the
median that `qfm bench` prints. Needs torch and timm.
"""
import argparse, json, os, platform, statistics, subprocess, tempfile, time
import timm
import torch
import torch.nn as nn
import torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--qfm", required=True)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--rounds", type=int, default=9)
p.add_argument("--only", default="")
p.add_argument("-o", dest="out")
a = p.parse_args()
torch.manual_seed(0)
torch.set_num_threads(a.threads)
TIMM = {"resnet18": "resnet18", "resnet50": "resnet50", "efficientnet-lite0": "tf_efficientnet_lite0", "vit-tiny": "deit_tiny_patch16_224"}


class Scorer(nn.Module):  # with the decoder that `qfm bench train` trains, at its width
    def __init__(self, arch):
        super().__init__()
        self.backbone = timm.create_model(TIMM[arch], num_classes=0)
        d = self.backbone.num_features
        w = d - d % 6
        self.input = nn.Linear(d, w) if w != d else nn.Identity()
        self.decoder = nn.TransformerDecoderLayer(w, 6, 4 * w, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True)
        self.queries, self.head = nn.Parameter(torch.randn(1, 6, w) * 0.02), nn.Linear(w, 1, bias=False)

    def forward(self, x):
        t = self.backbone.forward_features(x)
        pooled, tokens = (t.mean((2, 3)), t.flatten(2).transpose(1, 2)) if t.dim() == 4 else (t[:, 0], t[:, 1:])
        return self.head(self.decoder(self.queries + self.input(pooled)[:, None], self.input(tokens))).mean((1, 2))


def forward(arch, batch):
    model, x = timm.create_model(TIMM[arch], num_classes=0).eval(), torch.randn(batch, 3, 224, 224)

    def step():
        with torch.inference_mode():
            model.forward_features(x)
    return step


def training(arch, batch):
    model = Scorer(arch).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
    x, y = torch.randn(batch, 3, 224, 224), torch.rand(batch) * 100

    def step():
        F.smooth_l1_loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def milliseconds(step):
    times = []
    while sum(times) < 2 or len(times) < 3:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def milliseconds_of_qfm(what, arch, batch, row, peaks):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "qfm.json")
        command = [a.qfm, "bench", what, "--device", "cpu", "--arch", arch, "--batch", str(batch), "--only", row, "--threads", str(a.threads),
                   "--quiet", "-o", out, *(["--peaks", peaks] if os.path.exists(peaks) else [])]
        subprocess.run(command, check=True, capture_output=True)
        with open(out) as f:
            report = json.load(f)
        if not os.path.exists(peaks):
            os.replace(out, peaks)
        return report["rows"][-1]["median_ms"] * batch


ROWS = [("resnet50", "model", 1), ("resnet50", "model", 8), ("resnet18", "model", 1), ("efficientnet-lite0", "model", 1),
        ("efficientnet-lite0", "model", 8), ("efficientnet-lite0", "train", 16), ("resnet50", "train", 8), ("vit-tiny", "train", 16)]
results = []
with tempfile.TemporaryDirectory() as folder:
    for arch, what, batch in ROWS:
        name = f"{arch} {'forward' if what == 'model' else 'training step'}, batch {batch}"
        if a.only not in name:
            continue
        step = (forward if what == "model" else training)(arch, batch)
        step()
        ours, theirs = [], []
        for _ in range(a.rounds):
            ours.append(milliseconds_of_qfm(what, arch, batch, " backbone" if what == "model" else "loader excluded", os.path.join(folder, "peaks.json")))
            theirs.append(milliseconds(step))
        row = {"name": name, "qfm_ms": statistics.median(ours), "pytorch_ms": statistics.median(theirs)}
        row["times_pytorch"] = row["pytorch_ms"] / row["qfm_ms"]
        results.append({**row, "qfm_rounds": ours, "pytorch_rounds": theirs})
        print(f"{name:45s} qfm {row['qfm_ms']:9.2f} ms [{min(ours):.2f}, {max(ours):.2f}]   PyTorch {row['pytorch_ms']:9.2f} ms "
              f"[{min(theirs):.2f}, {max(theirs):.2f}]   {row['times_pytorch']:.2f} times PyTorch", flush=True)
if a.out:
    about = {"torch": torch.__version__, "timm": timm.__version__, "threads": a.threads, "machine": platform.processor(), "rows": results}
    with open(a.out, "w") as f:
        json.dump(about, f, indent=2)
