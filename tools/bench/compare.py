"""Sets the figures of `tools/device-report` side by side, in Markdown, with the bars they are held against.

  python3 compare.py PREFIX FACTS     reads PREFIX-kernels-{own,vendor}-*.json, PREFIX-{pytorch,model,model-1,train,method}.json,
                                      those that are there; writes PREFIX-bench.json: FACTS (a JSON object), ratios and bars
"""
import glob, json, statistics, sys

prefix, facts = sys.argv[1], json.loads(sys.argv[2])

def load(path):
    try:
        with open(path) as f: return json.load(f)
    except OSError: return None

def number(x, digits=1): return "-" if x is None else f"{x:.{digits}f}"

def table(head, lines):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines: print("| " + " | ".join(line) + " |")
    print()

# (kernel, shape) -> its rows, one a run; of those that failed the reason, which `failed` keeps.
failed = []
def kernel_runs(prefer):
    found = {}
    for path in sorted(glob.glob(f"{glob.escape(prefix)}-kernels-{prefer}-*.json")):
        report = load(path)
        for row in report["rows"]:
            if "error" in row: failed.append({"kernel": row["name"], "shape": row["shape"], "prefer": prefer, "error": row["error"]})
            else: found.setdefault((row["name"], row["shape"]), []).append(row)
        failed.extend({"kernel": case, "shape": "", "prefer": prefer, "error": why} for case, why in report.get("vendor_failures", {}).items())
    return found

def ms(rows): return statistics.mean(r["median_ms"] for r in rows)
def span(rows): return f"{ms(rows):.4f} [{min(r['min_ms'] for r in rows):.4f}, {max(r['max_ms'] for r in rows):.4f}]"

bars = []
def bar(what, value, least, unit="", at_most=False):
    met = None if value is None else value <= least if at_most else value >= least
    bars.append({"what": what, "value": value, "bar": least, "unit": unit, "met": met})

own, vendor = kernel_runs("own"), kernel_runs("vendor")
ratios = []
for key, rows in own.items():
    other = [r for r in vendor.get(key, []) if r["by"] == "vendor"]
    share = f"{100 * statistics.mean(r.get('share_of_peak', r['share_of_copy']) for r in rows):.0f}% of {'peak' if 'gflops' in rows[0] else 'copy'}"
    ratios.append({"kernel": key[0], "shape": key[1], "own_ms": ms(rows), "vendor_ms": ms(other) if other else None,
                   "vendor_to_own": ms(other) / ms(rows) if other else None, "share": share})
if own:
    print("## Own against vendor\n\nMilliseconds: mean of the runs' medians [least, most]; own and vendor took turns. Above 1.00 our own is faster.\n")
    table(("kernel", "shape", "own", "vendor", "vendor / own", "own's share"),
          [(r["kernel"], r["shape"], span(own[r["kernel"], r["shape"]]), "-" if r["vendor_ms"] is None else span(vendor[r["kernel"], r["shape"]]),
            number(r["vendor_to_own"], 2), r["share"]) for r in ratios])
if failed:
    print("## What failed\n")
    table(("kernel", "shape", "preferred", "reason"),
          [tuple(f[k].replace("|", "\\|") for k in ("kernel", "shape", "prefer", "error")) for f in failed])

peer = load(f"{prefix}-pytorch.json") or {"rows": []}
modes = {(r["name"], r["batch"]): r for r in peer["rows"]}
# The best of qfm's variants in a row.
def best(row): return max((q for q in (row or {}).get("qfm", []) if "not_run" not in q), key=lambda q: q["images_per_s"], default=None)
# The report's own figure of that batch.
def qfm_alone(what, batch):
    files, part = (("train",), "loader excluded") if what == "training" else (("model", "model-1"), "with decoder")
    for file in files:
        for row in reversed((load(f"{prefix}-{file}.json") or {"rows": []})["rows"]):
            if part in row["name"] and f"batch {batch}," in row["name"] + ",":
                return {"by": "its own report", "images_per_s": 1e3 / row["median_ms"], "peak_mb": row.get("peak_tensor_mb")}
# qfm's figure beside PyTorch's: that which took turns with the compiled mode, else the report's own.
def qfm_of(what, batch): return best(modes.get((f"{what}, torch.compile", batch))) or qfm_alone(what, batch)

side_by_side = []
for what in "training", "inference":
    for batch in sorted({r["batch"] for r in peer["rows"] if r["name"].startswith(what)}, reverse=True):
        eager, compiled = (modes.get((f"{what}, {how}", batch), {}) for how in ("eager", "torch.compile"))
        ours = qfm_of(what, batch)
        line = {"what": what, "batch": batch, "qfm": ours and ours["images_per_s"], "qfm_by": ours and ours["by"],
                "eager": eager.get("images_per_s"), "compile": compiled.get("images_per_s")}
        for how in "eager", "compile":
            line[f"qfm_to_{how}"] = line["qfm"] / line[how] if line["qfm"] and line[how] else None
        side_by_side.append(line)
if side_by_side:
    print("## Ours and PyTorch\n\nImages a second in BF16; above 1.00 ours is faster.\n")
    table(("", "batch", "qfm", "PyTorch eager", "torch.compile", "qfm / eager", "qfm / torch.compile"),
          [(s["what"], str(s["batch"]), number(s["qfm"], 0) + (f" (by {s['qfm_by']})" if s["qfm"] else ""), number(s["eager"], 0), number(s["compile"], 0),
            number(s["qfm_to_eager"], 2), number(s["qfm_to_compile"], 2)) for s in side_by_side])
if modes:
    print(f"## Against PyTorch {peer['torch']} ({peer['vit']})\n\nImages a second; qfm in BF16, the better of its rule and its tuned table; the compiled modes took turns with it.\n")
    lines = []
    for row in peer["rows"]:
        if row["name"].startswith("attention"): continue
        q = qfm_of(row["name"].split(",")[0], row["batch"])
        if "not_run" in row:
            lines.append((row["name"], str(row["batch"]), "not run: " + row["not_run"], number(q and q["images_per_s"], 0), "-", "-", number(q and q.get("peak_mb"), 0)))
            continue
        ratio = q and q["images_per_s"] / row["images_per_s"]
        row["qfm_to_pytorch"] = ratio
        lines.append((row["name"], str(row["batch"]), number(row["images_per_s"], 0), number(q and q["images_per_s"], 0) + (f" (by {q['by']})" if q else ""),
                      number(ratio, 2), number(row.get("peak_mb"), 0), number(q and q.get("peak_mb"), 0)))
    table(("mode", "batch", "PyTorch", "qfm", "qfm / PyTorch", "PyTorch peak MB", "qfm peak MB"), lines)

def mode(name):  # at the largest batch
    return max((r for (n, _), r in modes.items() if n == name), key=lambda r: r["batch"], default=None)
for what, goal in ("inference", 40000), ("training", 12500):
    row = mode(f"{what}, torch.compile")
    q = best(row)
    bar(f"{what}: qfm / torch.compile", q and row and q["times_pytorch"], 1.5)
    q = q or qfm_alone(what, 256)
    bar(f"{what}, absolute, for an H100 or H200", q and q["images_per_s"], goal, "images/s")
compiled = mode("training, torch.compile")
q = best(compiled)
memory = q["peak_mb"] / compiled["peak_mb"] if q and q.get("peak_mb") and compiled.get("peak_mb") else None
bar("peak training memory: qfm / torch.compile", memory, 1.0, at_most=True)
method = load(f"{prefix}-method.json")
bar("the method's training step / the baseline's", method and method["rows"][-1]["times_baseline"], 1.15, at_most=True)

# Ours by whichever is faster, against the goal or cuDNN in the same run, whichever is less.
for name, what, goal in ("attention", "forward", 220), ("attention.backward", "backward", 150):
    rows = next((rows for (n, _), rows in own.items() if n == name), None)
    rival = next(([r for r in rows if r["by"] == "vendor"] for (n, _), rows in vendor.items() if n == name), [])
    mine = rows and statistics.mean(r["gflops"] for r in rows) / 1e3
    cudnn = statistics.mean(r["gflops"] for r in rival) / 1e3 if rival else None
    bar(f"attention {what}, own (cuDNN here: {number(cudnn)})", mine, min(goal, cudnn or goal), "TFLOP/s")
    for implementation in "cudnn", "flash":
        sdpa = mode(f"attention {what}, SDPA {implementation}")
        if rows and sdpa and "median_ms" in sdpa: bar(f"attention {what}: own / PyTorch's SDPA by {implementation}", sdpa["median_ms"] / ms(rows), 1.0)
# Of less than 16 MB the launch counts; drawing noise is arithmetic (kernels/matching/noise.cu).
moving = {key: statistics.mean(r["share_of_copy"] for r in rows) for key, rows in own.items()
          if "gflops" not in rows[0] and rows[0].get("bytes", 16e6) >= 16e6 and key[0] != "draw_normal"}
slowest = min(moving, key=moving.get, default=None)
bar(f"memory-bound kernels, the lowest share of copy ({slowest[0] if slowest else 'none'})", moving.get(slowest), 0.85)

print("## Bars\n")
table(("what", "measured", "bar", ""),
      [(b["what"], number(b["value"], 2) + (" " + b["unit"] if b["value"] is not None and b["unit"] else ""), number(b["bar"], 2),
        {None: "not measured", True: "met", False: "missed"}[b["met"]]) for b in bars])
with open(f"{prefix}-bench.json", "w") as f:
    json.dump({**facts, "side_by_side": side_by_side, "kernels": ratios, "failed": failed, "pytorch": peer["rows"], "bars": bars}, f, indent=2)
    f.write("\n")
