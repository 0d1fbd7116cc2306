"""No-reference methods whose parameters ship with their Python packages, beside qfm on the same photos.

  python3 iqa_peers.py --qfm build/qfm --data labels.csv [--fold COLUMN=VALUE] [--threads 2] [-o PREFIX]
Each method runs in a process of its own: SRCC with the opinions, seconds a photo (decoding included, start left out), peak
memory, licence as its package says. Higher is better everywhere: PIQE and BRISQUE, which fall with quality, are turned round.
Methods that cannot be imported are named as missing. -o writes PREFIX.json and PREFIX.md. Packages: brisque, pyiqa, torch,
opencv-python-headless, scipy. Nothing is downloaded: what would fetch weights is no peer here.
"""
import argparse, csv, importlib.metadata, json, os, platform, resource, subprocess, sys, time


def brisque():
    from brisque import BRISQUE
    import cv2, numpy
    method = BRISQUE(url=False)
    scale = method.scale_features  # brisque 0.2.0 makes some features arrays of one number, which numpy 2.4 no longer takes for one
    method.scale_features = lambda features: scale([numpy.ravel(f)[0] for f in features])
    return "brisque", lambda path: -method.score(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB))


def piqe():
    import pyiqa, torch
    torch.set_num_threads(int(os.environ["QFM_PEER_THREADS"]))
    method = pyiqa.create_metric("piqe", device="cpu")
    return "pyiqa", lambda path: -float(method(path))


def sharpness():
    """No method of quality: the variance of the Laplacian, what blur detectors in the wild go by."""
    import cv2
    return "opencv-python-headless", lambda path: float(cv2.Laplacian(cv2.imread(path, cv2.IMREAD_GRAYSCALE), cv2.CV_64F).var())


METHODS = {"PIQE (pyiqa)": piqe, "BRISQUE (brisque)": brisque, "variance of the Laplacian (OpenCV)": sharpness}


def licence_of(package):
    about = importlib.metadata.metadata(package)
    text = about.get("License-Expression") or about.get("License") or ""
    if not text or len(text) > 60:
        text = next((c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License")), "not stated")
    return f"{text} ({package} {about['Version']})"


def run_one(name):
    package, score = METHODS[name]()
    paths = json.load(sys.stdin)
    score(paths[0])
    scores, start = [], time.perf_counter()
    for path in paths:
        scores.append(score(path))
    seconds = (time.perf_counter() - start) / len(paths)
    json.dump({"scores": scores, "seconds": seconds, "licence": licence_of(package),
               "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}, sys.stdout)


def peer(name, paths, threads):
    environment = dict(os.environ, QFM_PEER_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    done = subprocess.run([sys.executable, __file__, "--method", name], input=json.dumps(paths), capture_output=True,
                          text=True, env=environment)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or ["no reason given"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def qfm(program, paths, threads, dtype):
    command = [program, "score", "--json", "--quiet", "--device", "cpu", "--threads", str(threads), "--dtype", dtype, "-0", "-"]

    def score(some, profile=""):
        start = time.perf_counter()
        done = subprocess.run(command, input="\0".join(some), capture_output=True, text=True, check=True,
                              env=dict(os.environ, QFM_PROFILE=profile))
        return [json.loads(line)["score"] for line in done.stdout.splitlines()], time.perf_counter() - start, done.stderr
    _, _, said = score(paths[:1], "1")
    _, one, _ = score(paths[:1])
    scores, whole, _ = score(paths)
    peak = next((float(line.split()[2]) for line in said.splitlines() if line.startswith("peak resident")), None)
    return {"scores": scores, "seconds": (whole - one) / max(1, len(paths) - 1), "licence": "that of this repository", "peak_mib": peak}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--qfm")
    p.add_argument("--data")
    p.add_argument("--fold", default="")
    p.add_argument("--limit", type=int, default=0, help="only the first photos")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("-o", dest="out")
    p.add_argument("--method", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.method:
        return run_one(a.method)
    from scipy.stats import spearmanr
    listed = subprocess.run([a.qfm, "data", "list", a.data] + (["--fold", a.fold] if a.fold else []), capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(line for line in listed.stdout.splitlines() if not line.startswith("#")))
    if a.limit:
        rows = rows[:a.limit]
    folder = os.path.dirname(os.path.abspath(a.data))
    paths = [next(q for q in (os.path.join(folder, r["image"]), os.path.join(folder, "images", r["image"])) if os.path.exists(q)) for r in rows]
    labels = [float(r["score"]) for r in rows]
    found = {f"qfm, {d.upper()}": qfm(a.qfm, paths, a.threads, d) for d in ("f32", "int8")}
    for name in METHODS:
        found[name] = peer(name, paths, a.threads)
        print(name, found[name].get("missing", "done"), file=sys.stderr)
    version = subprocess.run([a.qfm, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    report = {"photos": len(paths), "data": os.path.basename(a.data), "fold": a.fold, "threads": a.threads, "qfm": version,
              "machine": platform.processor() or platform.machine(), "methods": {}}
    table = ["| method | SRCC | seconds a photo | peak MiB | licence |", "|---|---|---|---|---|"]
    for name, m in found.items():
        if "missing" in m:
            report["methods"][name] = m
            table.append(f"| {name} | not run: {m['missing']} | | | |")
            continue
        srcc = float(spearmanr(m.pop("scores"), labels).statistic)
        report["methods"][name] = dict(m, srcc=srcc)
        peak = "" if m["peak_mib"] is None else f"{m['peak_mib']:.0f}"
        table.append(f"| {name} | {srcc:.4f} | {m['seconds']:.4f} | {peak} | {m['licence']} |")
    text = f"# No-reference methods on {len(paths)} photos of {report['data']} ({a.fold or 'all'}), {a.threads} threads\n\n{version}\n\n" + "\n".join(table) + "\n"
    print(text)
    if a.out:
        open(a.out + ".json", "w").write(json.dumps(report, indent=1) + "\n")
        open(a.out + ".md", "w").write(text)


main()
