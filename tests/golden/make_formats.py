"""Photos in formats that other programs write, and their pixels as other programs read them: tests/golden/formats.

    python tests/golden/make_formats.py

Needs Pillow, NumPy and safetensors, and of Debian's packages webp,
libheif-examples, libavif-bin. The truth of a lossy format is its
library's own program (dwebp, heif-convert), of the others Pillow. NAME.EXT has the tensor NAME.EXT of
formats.safetensors: (height, width, 3), upright, 16 bits cut to the high byte, alpha composited over white.
"""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "formats"
WIDTH, HEIGHT = 45, 31
tensors = {}
work = Path(tempfile.mkdtemp())


def photo(channels=3, high=255, dtype=np.uint8):
    """Soft shapes with some grain; the last of two or four channels is alpha, with a clear corner and an opaque one."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grain = np.random.default_rng(7).uniform(-0.04, 0.04, (HEIGHT, WIDTH, channels))
    waves = [0.5 + 0.4 * np.sin(x / (5 + 2 * c) + y / (9 - c)) for c in range(channels)]
    pixels = np.stack(waves, 2) + grain
    if channels in (2, 4):
        pixels[..., -1] = np.clip((x + y - 10) / 50, 0, 1)
    return np.round(np.clip(pixels, 0, 1) * high).astype(dtype)


def over_white(image):
    """Pixels of a Pillow image as the program should have them."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"), dtype=np.int32)
        alpha = rgba[..., 3:]
        return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def keep(name, pixels):
    tensors[name] = np.ascontiguousarray(pixels)


def run(*command):
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def by(program, name, *options):
    """What another program makes of the file."""
    png = work / "decoded.png"
    png.unlink(missing_ok=True)
    order = [png] if program != "dwebp" else ["-o", png]
    run(program, FOLDER / name, *options, *order)
    keep(name, over_white(Image.open(png)))


def source(channels=3, **how):
    """The photo as a PNG file for encoders."""
    path = work / f"source{channels}.png"
    Image.fromarray(photo(channels)).save(path, **how)
    return path


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def webp():
    rgb, rgba = Image.fromarray(photo()), Image.fromarray(photo(4))
    rgb.save(FOLDER / "lossy.webp", quality=80)
    rgb.save(FOLDER / "lossless.webp", lossless=True)
    rgba.save(FOLDER / "alpha.webp", quality=80)
    rgba.save(FOLDER / "lossless_alpha.webp", lossless=True)
    for name in ("lossy", "lossless", "alpha", "lossless_alpha"):
        by("dwebp", name + ".webp")
    rgb.save(FOLDER / "exif6.webp", quality=80, exif=orientation(6))
    keep("exif6.webp", np.rot90(tensors["lossy.webp"], 3))
    # A frame at (6, 4) of a canvas that the second frame makes larger.
    run("webpmux", "-frame", FOLDER / "lossy.webp", "+100+6+4", "-frame", FOLDER / "lossless.webp", "+100+20+10", "-o",
        FOLDER / "animated.webp")
    canvas = np.full((HEIGHT + 10, WIDTH + 20, 3), 255, np.uint8)
    canvas[4:4 + HEIGHT, 6:6 + WIDTH] = tensors["lossy.webp"]
    keep("animated.webp", canvas)


def heif():
    deep = work / "deep.png"
    write_png16(deep, photo(3, 65535, np.uint16))
    for kind in ("heic", "avif"):
        run("heif-enc", "-q", "70", source(3), "-o", FOLDER / f"plain.{kind}")
        run("heif-enc", "-q", "70", source(4), "-o", FOLDER / f"alpha.{kind}")
    run("heif-enc", "-q", "70", "-b", "10", deep, "-o", FOLDER / "ten_bits.heic")
    run("avifenc", "-d", "10", deep, FOLDER / "ten_bits.avif")
    run("avifenc", "--irot", "1", source(3), FOLDER / "turned.avif")
    turned_heic(FOLDER / "turned.heic")
    for name in ("plain", "alpha", "turned", "ten_bits"):
        by("heif-convert", name + ".heic")
        by("heif-convert", name + ".avif")
    # EXIF's orientation only repeats what the container asks for, here nothing.
    jpeg = work / "exif.jpg"
    Image.fromarray(photo()).save(jpeg, quality=95, exif=orientation(6))
    run("heif-enc", "-q", "70", jpeg, "-o", FOLDER / "exif6.heic")
    run("heif-convert", FOLDER / "exif6.heic", work / "exif6.png")
    keep("exif6.heic", np.asarray(Image.open(work / "exif6.png").convert("RGB")))


class EncodingOptions(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint8), ("alpha", ctypes.c_uint8), ("macos", ctypes.c_uint8), ("colr", ctypes.c_uint8),
                ("nclx", ctypes.c_void_p), ("no_nclx", ctypes.c_uint8), ("orientation", ctypes.c_int)]


class HeifError(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("subcode", ctypes.c_int), ("message", ctypes.c_char_p)]


def turned_heic(path):
    """heif-enc writes no orientation of the container."""
    heif = ctypes.CDLL("libheif.so.1")
    heif.heif_context_alloc.restype = ctypes.c_void_p
    heif.heif_encoding_options_alloc.restype = ctypes.POINTER(EncodingOptions)
    heif.heif_image_get_plane.restype = ctypes.POINTER(ctypes.c_uint8)
    rgb, interleaved, hevc, channel = 1, 10, 1, 10

    def call(name, *arguments):
        function = getattr(heif, name)
        function.restype = HeifError
        error = function(*arguments)
        assert error.code == 0, (name, error.message)

    context, image, encoder = ctypes.c_void_p(heif.heif_context_alloc()), ctypes.c_void_p(), ctypes.c_void_p()
    call("heif_image_create", WIDTH, HEIGHT, rgb, interleaved, ctypes.byref(image))
    call("heif_image_add_plane", image, channel, WIDTH, HEIGHT, 8)
    stride = ctypes.c_int()
    plane = heif.heif_image_get_plane(image, channel, ctypes.byref(stride))
    for y, row in enumerate(photo()):
        ctypes.memmove(ctypes.addressof(plane.contents) + y * stride.value, row.tobytes(), 3 * WIDTH)
    call("heif_context_get_encoder_for_format", context, hevc, ctypes.byref(encoder))
    options = heif.heif_encoding_options_alloc()
    options.contents.orientation = 8
    call("heif_context_encode_image", context, image, encoder, options, None)
    call("heif_context_write_to_file", context, str(path).encode())


def write_png16(path, pixels):
    """Pillow writes no 16-bit RGB."""
    import struct
    import zlib

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


FOLDER.mkdir(exist_ok=True)
webp()
heif()
save_file(tensors, FOLDER / "formats.safetensors")
