"""The same model and step in PyTorch, for a comparison in the same run: ViT + DEIQT decoder, forward and training.

  python3 pytorch_peer.py [--arch small|tiny] [--batch 256] [--seconds 300] [--qfm build/qfm [--choices FILE]] [-o FILE.json]
Prints a row a mode: eager and torch.compile, BF16 (autocast with F32 masters for training), attention by SDPA; and SDPA
alone. Eager modes come first: they take seconds where compiling takes a minute. With --qfm the compiled modes alternate with qfm's, twice each. Needs torch; the ViT is timm's where timm is there.
What does not fit into --seconds is reported as not run.
"""
import argparse, datetime, gc, json, os, statistics, subprocess, sys, tempfile, time
begin = time.time()  # importing can take a minute too
import torch
import torch.nn as nn
import torch.nn.functional as F

try:
    import timm
except ImportError:
    timm = None

p = argparse.ArgumentParser()
p.add_argument("--arch", default="small", choices=["tiny", "small"])
p.add_argument("--batch", type=int, default=256)
p.add_argument("--seconds", type=float, default=300)
p.add_argument("--device", default="cuda")
p.add_argument("--qfm", help="the program to compare with")
p.add_argument("--choices", help="a table of qfm bench tune: qfm is measured with it too")
p.add_argument("--peaks", help="a report of qfm bench with this device's peaks, which qfm then need not measure again")
p.add_argument("-o", dest="out")
a = p.parse_args()
torch.manual_seed(0)
cuda = a.device == "cuda"
torch.backends.cudnn.allow_tf32 = False  # F32 is F32, as in qfm


class Block(nn.Module):  # timm's, in plain PyTorch
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d, 1e-6), nn.LayerNorm(d, 1e-6)
        self.qkv, self.proj, self.fc1, self.fc2 = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.embed_dim = d
        self.embed = nn.Conv2d(3, d, 16, 16)
        self.cls, self.pos = nn.Parameter(torch.zeros(1, 1, d)), nn.Parameter(torch.randn(1, 197, d) * 0.02)
        self.blocks = nn.Sequential(*(Block(d, d // 64) for _ in range(12)))
        self.norm = nn.LayerNorm(d, 1e-6)

    def forward_features(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        return self.norm(self.blocks(torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos))


class Model(nn.Module):
    def __init__(self, sdpa=True):
        super().__init__()
        self.vit = timm.create_model(f"deit_{a.arch}_patch16_224", num_classes=0) if timm else Vit({"tiny": 192, "small": 384}[a.arch])
        for m in self.vit.modules():
            if hasattr(m, "fused_attn"): m.fused_attn = sdpa
        d = self.vit.embed_dim
        self.decoder = nn.TransformerDecoderLayer(d, 6, 4 * d, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True)
        self.queries = nn.Parameter(torch.randn(1, 6, d) * 0.02)
        self.head = nn.Linear(d, 1, bias=False)

    def forward(self, x):
        t = self.vit.forward_features(x)
        return self.head(self.decoder(self.queries + t[:, :1], t[:, 1:])).mean(1)[:, 0]


def left(): return a.seconds - (time.time() - begin)

def synchronize():
    if cuda: torch.cuda.synchronize()

# On the CPU, where this file is only tried, two calls.
def milliseconds(step, rounds=9 if cuda else 2, calls=5 if cuda else 1):
    times = []
    for _ in range(rounds):
        synchronize(); t = time.perf_counter()
        for _ in range(calls): step()
        synchronize(); times.append((time.perf_counter() - t) / calls * 1e3)
    return times

def reason(e): return (str(e) or type(e).__name__).splitlines()[0]

# One run of `qfm bench`: its row for that batch, or {"not_run": why}.
def run_qfm(what, batch, choices):
    if left() < 20: return {"not_run": "no time left"}
    row = "loader excluded" if what == "train" else "with decoder"
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "qfm.json")
        command = [a.qfm, "bench", what, "--device", a.device, "--dtype", "bf16", "--arch", f"vit-{a.arch}", "--batch", str(batch),
                   "--only", row, "--quiet", "-o", out, *(["--peaks", a.peaks] if a.peaks else [])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left(), env={**os.environ, **({"QFM_KERNELS": choices} if choices else {})})
            if done.returncode: return {"not_run": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
            with open(out) as f: return json.load(f)["rows"][-1]  # of a forward pass eager and graph: the graph, as the product runs it
        except Exception as e:
            return {"not_run": reason(e)}

# What the rounds of one variant of qfm come to, against a median of ours. A round that failed takes nothing from the others.
def summary(by, rounds, batch, ms):
    failed, rounds = [r["not_run"] for r in rounds if "not_run" in r], [r for r in rounds if "not_run" not in r]
    if not rounds: return {"by": by, "not_run": failed[0]}
    mine = statistics.median(r["median_ms"] for r in rounds) * batch
    return {"by": by, "median_ms": mine, "min_ms": min(r["min_ms"] for r in rounds) * batch, "max_ms": max(r["max_ms"] for r in rounds) * batch,
            "images_per_s": batch / mine * 1e3, "peak_mb": rounds[-1].get("peak_tensor_mb"), "times_pytorch": ms / mine,
            "rounds": len(rounds), **({"round_not_run": failed[0]} if failed else {})}

# step and qfm's variants in turn, twice; without qfm step alone.
def alternate(step, batch, qfm):
    variants = ([("rule", None)] + ([("table", a.choices)] if a.choices else [])) if a.qfm and qfm else []
    times, rounds = [], {by: [] for by, _ in variants}
    for _ in range(2 if variants else 1):
        times += milliseconds(step)
        if cuda and variants: torch.cuda.empty_cache()  # the other program needs room too
        for by, choices in variants: rounds[by].append(run_qfm(qfm, batch, choices))
        if variants: step()
    return times, [summary(by, r, batch, statistics.median(times)) for by, r in rounds.items()]

rows = []
def add(row, text):
    rows.append(row)
    print(f"{row['name']:42s} batch {row['batch']:4d} {text}", flush=True)
    for q in row.get("qfm", []):
        print(f"{'   qfm by ' + q['by']:42s} batch {row['batch']:4d} " + (f"not run: {q['not_run']}" if "not_run" in q else
              f"{q['median_ms']:9.3f} ms [{q['min_ms']:.3f}, {q['max_ms']:.3f}] {q['images_per_s']:9.0f} images/s, {q['times_pytorch']:.2f} times PyTorch"
              + (f"; a round was not run: {q['round_not_run']}" if "round_not_run" in q else "")), flush=True)
    if a.out:  # after each row, and whole at any moment: what was measured stays when the time runs out
        with open(a.out + ".part", "w") as f: json.dump({**about, "rows": rows}, f, indent=2)
        os.replace(a.out + ".part", a.out)

def measure(name, batch, make, qfm=None):
    row = {"name": name, "batch": batch}
    if left() < (60 if "compile" in name else 0):  # compiling alone takes about a minute
        row["not_run"] = "no time left"
        return add(row, "not run: no time left")
    torch.compiler.reset()  # nothing compiled for the row before is kept, neither its memory nor its shapes
    gc.collect()
    if cuda: torch.cuda.empty_cache(); torch.cuda.reset_peak_memory_stats()
    try:
        step = make()
        for _ in range(3): step()
        if cuda: row["peak_mb"] = torch.cuda.max_memory_allocated() >> 20
        times, others = alternate(step, batch, qfm)
    except Exception as e:
        row["not_run"] = reason(e)
        return add(row, f"not run: {row['not_run']}")
    ms = statistics.median(times)
    row.update(median_ms=ms, min_ms=min(times), max_ms=max(times), images_per_s=batch / ms * 1e3)
    if others: row["qfm"] = others
    add(row, f"{ms:9.3f} ms [{min(times):.3f}, {max(times):.3f}] {row['images_per_s']:9.0f} images/s")

def inference(batch, compiled, dtype=torch.bfloat16, sdpa=True):
    def make():
        model = Model(sdpa).to(a.device, dtype).eval()
        f = torch.compile(model) if compiled else model
        x = torch.randn(batch, 3, 224, 224, device=a.device, dtype=dtype)
        def step():
            with torch.inference_mode(): f(x)
        return step
    return make

def training(batch, compiled, sdpa=True):
    def make():
        model = Model(sdpa).to(a.device).train()
        f = torch.compile(model) if compiled else model
        opt = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
        x, y = torch.randn(batch, 3, 224, 224, device=a.device), torch.rand(batch, device=a.device) * 100
        def step():
            with torch.autocast(a.device, dtype=torch.bfloat16): out = f(x)
            F.smooth_l1_loss(out.float(), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0); opt.step(); opt.zero_grad(set_to_none=True)
        return step
    return make

# Scaled dot-product attention alone, by one of PyTorch's implementations.
def attention(batch, backend, backward):
    def make():
        from torch.nn.attention import SDPBackend, sdpa_kernel
        heads, d = {"tiny": 3, "small": 6}[a.arch], 64
        q, k, v, dy = (torch.randn(batch, heads, 197, d, device=a.device, dtype=torch.bfloat16, requires_grad=backward) for _ in range(4))
        def forward():
            with sdpa_kernel(getattr(SDPBackend, backend)): return F.scaled_dot_product_attention(q, k, v)
        if not backward: return lambda: forward()
        y, dy = forward(), dy.detach()
        return lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True)
    return make

def commit():
    try:
        done = subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], capture_output=True, text=True)
        if done.returncode == 0: return done.stdout.strip()
    except OSError: pass
    return os.environ.get("QFM_COMMIT", "unknown")

def driver():
    if not cuda: return "none"
    try:
        return subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True).stdout.split()[0]
    except (OSError, IndexError): return f"for CUDA {torch.version.cuda}"

name = torch.cuda.get_device_name() if cuda else "CPU"
vit = f"timm {timm.__version__}" if timm else "no timm: the same ViT in plain PyTorch"
about = {"torch": torch.__version__, "vit": vit, "device": name, "driver": driver(), "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
         "commit": commit(), "command": " ".join(["python3", "tools/bench/pytorch_peer.py", *sys.argv[1:]]), "arch": a.arch}
print(f"PyTorch {torch.__version__}, {vit}, {name}, ViT-{a.arch} with decoder, BF16", flush=True)
measure("training, eager", a.batch, training(a.batch, False))
measure("inference, eager", a.batch, inference(a.batch, False))
measure("training, torch.compile", a.batch, training(a.batch, True), "train")
measure("inference, torch.compile", a.batch, inference(a.batch, True), "model")
for backend in "CUDNN_ATTENTION", "FLASH_ATTENTION":
    for backward in False, True:
        measure(f"attention {'backward' if backward else 'forward'}, SDPA {backend.split('_')[0].lower()}", a.batch, attention(a.batch, backend, backward))
if a.batch > 1: measure("inference, torch.compile", 1, inference(1, True), "model")
if timm: measure("training, eager, without SDPA", a.batch, training(a.batch, False, sdpa=False))
measure("inference, eager, F32", a.batch, inference(a.batch, False, torch.float32))
