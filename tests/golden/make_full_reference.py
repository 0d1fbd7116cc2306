"""Writes full_reference.json and full_reference_{a,b}.png beside it: what scikit-image (PSNR, SSIM) and pyiqa (MS-SSIM, GMSD, VIF)
give for two pictures, parts of them and their distortions, which the test makes by the same whole-number arithmetic. pyiqa computes in
F32; kept is the same code in F64, and how far F32 is from it is printed.

  pip install pyiqa scikit-image
  python3 make_full_reference.py
"""
import json, os

import numpy as np
import pyiqa, skimage, torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

here = os.path.dirname(os.path.abspath(__file__))


def blur(c):
    padded = np.pad(c, ((2, 2), (2, 2), (0, 0)), "edge")
    return (sum(padded[y : y + c.shape[0], x : x + c.shape[1]] for y in range(5) for x in range(5)) + 12) // 25


def noise(c):
    state, out = 1, c.ravel().copy()
    for i in range(out.size):
        state = (state * 1664525 + 1013904223) % 2**32
        out[i] += (state >> 16) % 61 - 30
    return out.reshape(c.shape).clip(0, 255)


KINDS = {
    "blur": blur,
    "noise": noise,
    "steps": lambda c: c // 32 * 32 + 16,
    "contrast": lambda c: (2 * c + 127) // 3,
    "inverted": lambda c: 255 - c,
    "colour": lambda c: np.stack([np.minimum(c[..., 0] + 20, 255), c[..., 1], c[..., 2]], 2),
    "shifted": lambda c: np.concatenate([c[:, :1], c[:, :-1]], 1),
}


def values(reference, distorted):
    r, d = reference.astype(np.uint8), distorted.astype(np.uint8)
    luma = lambda c: (299 * c[..., 0] + 587 * c[..., 1] + 114 * c[..., 2] + 500) // 1000
    x, y = luma(reference).astype(np.float64), luma(distorted).astype(np.float64)
    found = {
        "psnr": peak_signal_noise_ratio(r, d),
        "ssim": structural_similarity(x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False),
    }
    tensors = [torch.from_numpy(c / 255).permute(2, 0, 1)[None] for c in (d, r)]
    side = min(r.shape[:2])
    for name, least in (("ssim", 11), ("ms_ssim", 161), ("gmsd", 4), ("vif", 33)):
        if side < least:
            found[name] = None
            continue
        metric = pyiqa.create_metric(name, device="cpu")
        with torch.no_grad():
            in_f32 = metric(*[t.float() for t in tensors]).item()
            kept, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
            value = metric.net(*tensors).item()
            torch.Tensor.float = kept
        print(f"  {name}: {value:.6f}, in F32 {in_f32 - value:+.1e}")
        if name == "ssim":  # whose contrast and structure are not below 0 there
            print(f"  ssim of scikit-image {found['ssim']:.6f}")
        else:
            found[name] = value
    return found


def main():
    cases = []
    pictures = {}
    for name, photo, box in (("a", "cid22_1029604.jpg", (150, 120, 350, 297)), ("b", "cid22_1583339.jpg", (100, 200, 261, 361))):
        picture = Image.open(f"{here}/../../tools/demo_photos/{photo}").convert("RGB").crop(box)
        picture.save(f"{here}/full_reference_{name}.png", optimize=True)
        pictures[name] = np.asarray(picture).astype(np.int64)
    sizes = {"a": [(200, 177), (199, 162), (60, 47)], "b": [(161, 161), (41, 33)]}
    for name, picture in pictures.items():
        for width, height in sizes[name]:
            part = picture[:height, :width]
            for kind, distort in KINDS.items():
                print(name, width, height, kind)
                found = values(part, distort(part))
                cases.append({"picture": name, "width": width, "height": height, "kind": kind, **found})
    versions = {"pyiqa": pyiqa.__version__, "scikit-image": skimage.__version__, "torch": torch.__version__}
    with open(f"{here}/full_reference.json", "w") as file:
        lines = ",\n".join("  " + json.dumps(case) for case in cases)
        file.write('{"versions": ' + json.dumps(versions) + ',\n "cases": [\n' + lines + "\n]}\n")


main()
