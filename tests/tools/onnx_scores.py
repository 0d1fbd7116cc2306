#!/usr/bin/env python3
"""The files of `qfm model convert --to onnx` in ONNX Runtime: the scores of `qfm score`, within 1e-3 of 100.

  onnx_scores.py ROOT [MODEL...]     ROOT/build/qfm is built
Each model scores the middle of the demo photos: those given, the shipped one, and one of each other kind of backbone,
head and scale, trained for a step. Ends with 0 where all agree. Needs onnxruntime and Pillow.
"""
import glob, json, os, subprocess, sys, tempfile

import numpy as np
import onnxruntime
from PIL import Image

root = os.path.abspath(sys.argv[1])
models = [*sys.argv[2:], os.path.join(root, "models/pretrained/qfm-tiny.safetensors")]
KINDS = (["--arch", "resnet18", "--head", "linear", "--select", "on"],
         ["--arch", "efficientnet-lite0", "--labels", "raw", "--lower-is-better"])
qfm = os.path.join(root, "build/qfm")
photos = sorted(glob.glob(os.path.join(root, "tools/demo_photos/*.jpg")))
worst = 0.0


def centre(path, side):
    photo = Image.open(path).convert("RGB")
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return np.asarray(photo.crop((left, top, left + side, top + side)), dtype=np.float32).transpose(2, 0, 1)


with tempfile.TemporaryDirectory() as folder:
    table = os.path.join(folder, "scores.csv")
    with open(table, "w") as file:
        file.write("image,score\n" + "".join(f"{photo},{1 + i % 5}\n" for i, photo in enumerate(photos)))
    for i, kind in enumerate(KINDS):
        out = os.path.join(folder, str(i))
        step = ["--epochs", "1", "--crops-per-image", "1", "--batch", "8", "--resize", "none", "--device", "cpu"]
        subprocess.run([qfm, "train", "--quiet", "--data", table, "--scale", "1:5", "--out", out, *step, *kind],
                       check=True, stdout=subprocess.DEVNULL)
        models.append(out + "/last.safetensors")
    for model in models:
        path = os.path.join(folder, "model.onnx")
        subprocess.run([qfm, "model", "convert", model, path, "--to", "onnx", "--quiet"], check=True)
        command = [qfm, "score", "--json", "--quiet", "--crops", "center", "--resize", "none", "--device", "cpu",
                   "--dtype", "f32", "--model", model, *photos]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        ours = [json.loads(line)["score"] for line in answer.splitlines()]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        pixels = session.get_inputs()[0]
        assert pixels.name == "pixels" and [o.name for o in session.get_outputs()] == ["score", "members"], model
        crops = np.stack([centre(photo, pixels.shape[2]) for photo in photos])
        score, members = session.run(["score", "members"], {"pixels": crops})
        alone = session.run(["score"], {"pixels": crops[:1]})[0]  # a batch of any size
        error = max(np.abs(score - ours).max(), abs(alone[0] - ours[0]), np.abs(members.mean(1) - score).max())
        name = os.path.relpath(model, folder if model.startswith(folder) else root)
        print(f"{name}: {len(ours)} photos, scores {min(ours):.3f} to {max(ours):.3f}, off by at most {error:.2e}")
        worst = max(worst, error) if len(ours) == len(photos) and np.isfinite(error) else float("inf")
sys.exit(0 if worst <= 1e-3 else 1)
