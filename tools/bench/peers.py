"""Networks beside other engines on this CPU, in turns: forward passes and training steps, per dtype.

  python3 peers.py --qfm build/qfm [--threads 2] [--rounds 9] [--only TEXT] [-o PREFIX]
Each round times every engine once, in the same order (A B C A B C ...); printed are medians of the rounds in ms an image, and how
many times as fast qfm is. qfm's time of a round is the median that `qfm bench` prints. -o writes PREFIX.json and PREFIX.md.
Peers are those that can be imported: torch with timm; openvino, and nncf for its int8 (quantised after training, on noise: only the
time is wanted); onnxruntime with onnx (its int8 is dynamic). Everybody computes timm's model without the classifier, in training
with a decoder of six queries behind it; the weights are random.
"""
import argparse, json, os, platform, statistics, subprocess, sys, tempfile, time
import numpy as np
import timm
import torch
import torch.nn as nn
import torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--qfm", required=True)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--rounds", type=int, default=9)
p.add_argument("--only", default="", help="rows with this in their name")
p.add_argument("-o", dest="out")
a = p.parse_args()
torch.manual_seed(0)
torch.set_num_threads(a.threads)
TIMM = {"resnet18": "resnet18", "resnet50": "resnet50", "efficientnet-lite0": "tf_efficientnet_lite0",
        "vit-tiny": "deit_tiny_patch16_224", "vit-small": "deit_small_patch16_224"}
ROWS = [("vit-tiny", "model", 1), ("vit-tiny", "model", 8), ("vit-small", "model", 1), ("vit-small", "model", 8),
        ("vit-tiny", "train", 16), ("vit-small", "train", 8),
        ("resnet50", "model", 1), ("resnet50", "model", 8), ("resnet18", "model", 1), ("efficientnet-lite0", "model", 1),
        ("efficientnet-lite0", "model", 8), ("efficientnet-lite0", "train", 16), ("resnet50", "train", 8)]


class Features(nn.Module):  # the backbone alone
    def __init__(self, arch):
        super().__init__()
        self.backbone = timm.create_model(TIMM[arch], num_classes=0).eval()

    def forward(self, x):
        return self.backbone.forward_features(x)


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


def torch_forward(model, x, bf16):
    def step():
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            model(x)
    return step


def torch_training(arch, batch, bf16):
    model = Scorer(arch).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
    x, y = torch.randn(batch, 3, 224, 224), torch.rand(batch) * 100

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            out = model(x)
        F.smooth_l1_loss(out.float(), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def openvino_steps(model, x):
    try:
        import openvino as ov
    except ImportError:
        return
    core, plain = ov.Core(), ov.convert_model(model, example_input=x, input=list(x.shape))

    def compiled(network, precision):
        settings = {"INFERENCE_NUM_THREADS": a.threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
        request = core.compile_model(network, "CPU", settings).create_infer_request()
        return lambda: request.infer([x.numpy()], share_inputs=True)
    for precision in "f32", "bf16":
        yield f"openvino {precision}", compiled(plain, precision)
    try:
        import nncf
    except ImportError:
        return
    noise = nncf.Dataset([np.random.randn(*x.shape).astype(np.float32) for _ in range(4)])
    settings = {"model_type": nncf.ModelType.TRANSFORMER} if hasattr(model.backbone, "blocks") and hasattr(model.backbone, "cls_token") else {}
    network = nncf.quantize(plain, noise, subset_size=4, preset=nncf.QuantizationPreset.PERFORMANCE, **settings)
    for precision in "f32", "bf16":  # of what is not int8
        yield f"openvino int8 + {precision}", compiled(network, precision)


def onnxruntime_steps(model, x, folder):
    try:
        import onnxruntime as ort
        from onnxruntime.quantization import quantize_dynamic
    except ImportError:
        return
    files = [os.path.join(folder, name) for name in ("f32.onnx", "int8.onnx")]
    torch.onnx.export(model, x, files[0], input_names=["x"], dynamo=False)
    quantize_dynamic(files[0], files[1])
    options = ort.SessionOptions()
    options.intra_op_num_threads = a.threads
    for name, file in zip(("f32", "int8"), files):
        session = ort.InferenceSession(file, options, ["CPUExecutionProvider"])
        yield f"onnxruntime {name}", lambda session=session: session.run(None, {"x": x.numpy()})


def peers(arch, what, batch, folder):
    """(name, step) of each."""
    if what == "train":
        yield "torch f32", torch_training(arch, batch, False)
        yield "torch bf16 autocast", torch_training(arch, batch, True)
        return
    model, x = Features(arch).eval(), torch.randn(batch, 3, 224, 224)
    yield "torch f32", torch_forward(model, x, False)
    if not arch.startswith("vit"):
        return
    yield "torch bf16 autocast", torch_forward(model, x, True)
    yield from openvino_steps(model, x)
    yield from onnxruntime_steps(model, x, folder)


def milliseconds(step):
    times = []
    while sum(times) < 1 or len(times) < 3:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def milliseconds_of_qfm(arch, what, batch, dtype, folder):
    out, peaks = (os.path.join(folder, f"{name}.json") for name in ("qfm", f"peaks-{dtype}"))
    command = [a.qfm, "bench", what, "--device", "cpu", "--arch", arch, "--batch", str(batch), "--dtype", dtype, "--threads", str(a.threads),
               "--only", " backbone" if what == "model" else "loader excluded", "--quiet", "-o", out]
    done = subprocess.run(command + (["--peaks", peaks] if os.path.exists(peaks) else []), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    with open(out) as f:
        report = json.load(f)
    if not os.path.exists(peaks):
        os.replace(out, peaks)
    about.setdefault("qfm", {k: report.get(k) for k in ("commit", "path", "peak_gflops", "copy_gbs")})
    return report["rows"][-1]["median_ms"] * batch


def measure(arch, what, batch, folder):
    dtypes = ("f32", "bf16", "int8") if what == "model" and arch.startswith("vit") else ("f32", "bf16") if arch.startswith("vit") else ("f32",)
    engines = {f"qfm {t}": lambda t=t: milliseconds_of_qfm(arch, what, batch, t, folder) for t in dtypes}
    for name, step in peers(arch, what, batch, folder):
        step()
        engines[name] = lambda step=step: milliseconds(step)
    rounds = {name: [] for name in engines}
    for _ in range(a.rounds):
        for name, time_of in engines.items():
            rounds[name].append(time_of() / batch)
    return rounds


def ratio(rounds, ours, theirs):
    return statistics.median(rounds[theirs]) / statistics.median(rounds[ours])


def cpu_name():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def markdown():
    lines = [f"# qfm beside other engines: {about['machine']}, {a.threads} threads", "",
             f"Commit {about['qfm']['commit']}, path {about['qfm']['path']}; measured FMA peak {about['qfm']['peak_gflops']:.0f} GFLOP/s. "
             + ", ".join(f"{k} {v}" for k, v in about["versions"].items()) + ".",
             f"Milliseconds an image, median [least, most] of {a.rounds} rounds in turns. Above 1.00 qfm is faster. By `{about['command']}`.", ""]
    for row in about["rows"]:
        ours = [n for n in row["rounds"] if n.startswith("qfm")]
        lines += [f"## {row['name']}", "", "| | ms | " + " | ".join(ours) + " |", "|---|---|" + "---|" * len(ours)]
        for name, values in row["rounds"].items():
            lines.append(f"| {name} | {statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}] | "
                         + " | ".join(f"{ratio(row['rounds'], n, name):.2f}" for n in ours) + " |")
        lines.append("")
    return "\n".join(lines)


def version(module):
    try:
        return __import__(module).__version__.split("-")[0]
    except ImportError:
        return "absent"


about = {"machine": cpu_name(), "threads": a.threads, "rounds": a.rounds, "command": f"python3 tools/bench/peers.py --threads {a.threads} --rounds {a.rounds} --only '{a.only}'",
         "versions": {m: version(m) for m in ("torch", "timm", "openvino", "nncf", "onnxruntime")}, "rows": []}
with tempfile.TemporaryDirectory() as folder:
    for arch, what, batch in ROWS:
        name = f"{arch} {'forward' if what == 'model' else 'training step'}, batch {batch}"
        if a.only not in name:
            continue
        rounds = measure(arch, what, batch, folder)
        about["rows"].append({"name": name, "rounds": rounds})
        print(name, flush=True)
        for engine, values in rounds.items():
            print(f"  {engine:22s} {statistics.median(values):9.2f} ms [{min(values):.2f}, {max(values):.2f}]", flush=True)
        if a.out:
            with open(a.out + ".json", "w") as f:
                json.dump(about, f, indent=1)
            with open(a.out + ".md", "w") as f:
                f.write(markdown())
