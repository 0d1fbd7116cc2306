"""Photos in formats that other programs write, and their pixels as other programs read them: tests/golden/formats.

    python tests/golden/make_formats.py

Needs Pillow, NumPy, tifffile and safetensors, and of Debian's packages webp, libheif-examples, libavif-bin, libjxl-tools,
libtiff-tools and gifsicle. The truth of a lossy format is its library's own program (dwebp, heif-convert,
djxl), of the others Pillow. NAME.EXT has the tensor NAME.EXT of formats.safetensors: (height, width, 3), upright, 16 bits
cut to the high byte, alpha composited over white.
"""

import ctypes
import io
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps
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


def jpeg_xl():
    jpeg, gray = work / "exif.jpg", work / "gray.png"
    Image.fromarray(photo()).convert("L").save(gray)
    for name, of, how in (("plain", source(3), ("-d", "1")), ("lossless", source(3), ("-d", "0")), ("alpha", source(4), ("-d", "1")),
                          ("gray", gray, ("-d", "1"))):
        run("cjxl", of, FOLDER / f"{name}.jxl", *how)
        by("djxl", name + ".jxl")
    # To a format without EXIF: djxl has turned the picture already.
    run("cjxl", jpeg, FOLDER / "turned.jxl")
    run("djxl", FOLDER / "turned.jxl", work / "turned.ppm")
    keep("turned.jxl", np.asarray(Image.open(work / "turned.ppm")))
    assert (tensors["lossless.jxl"] == photo()).all()
    run("cjxl", FOLDER / "p3.png", FOLDER / "p3.jxl", "-d", "0")
    keep("p3.jxl", tensors["p3.png"])


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


def by_pillow(name, image=None, **how):
    """What Pillow reads of what it wrote, or of a file that is there."""
    if image is not None:
        image.save(FOLDER / name, **how)
    keep(name, over_white(Image.open(FOLDER / name)))


def tiffcp(name, of, *options):
    """The same pixels stored in another way."""
    run("tiffcp", *options, FOLDER / of, FOLDER / name)
    by_pillow(name)


def png_and_gif():
    rgb, gray, deep = photo(), photo(1)[..., 0], photo(3, 65535, np.uint16)
    palette = Image.fromarray(rgb).quantize(16)
    by_pillow("palette.png", palette)
    by_pillow("palette_transparent.png", palette, transparency=bytes([0, 128, 255]))
    by_pillow("gray_alpha.png", Image.fromarray(photo(2), "LA"))
    by_pillow("bits.png", Image.fromarray(gray).convert("1"))
    by_pillow("exif6.png", Image.fromarray(rgb), exif=orientation(6))
    write_png16(FOLDER / "rgb16.png", deep)
    keep("rgb16.png", (deep >> 8).astype(np.uint8))
    by_pillow("plain.gif", Image.fromarray(rgb).quantize(64))
    by_pillow("transparent.gif", palette, transparency=3)
    run("gifsicle", "--interlace", FOLDER / "plain.gif", "-o", FOLDER / "interlaced.gif")
    by_pillow("interlaced.gif")
    frames = [palette, Image.fromarray(255 - rgb).quantize(16)]
    frames[0].save(FOLDER / "animated.gif", save_all=True, append_images=frames[1:])
    by_pillow("animated.gif")
    # Its code table stays full, as GIF89a allows: noise of 256 colours, and an encoder that never clears.
    noise = np.random.default_rng(3).integers(0, 256, (68, 68)).astype(np.uint8)
    deferred_clear(FOLDER / "deferred_clear.gif", noise)
    keep("deferred_clear.gif", np.repeat(noise[..., None], 3, 2))


def deferred_clear(path, gray):
    codes, table, bits, size = [(256, 9)], {bytes([i]): i for i in range(256)}, 258, 9
    word = b""
    for value in gray.tobytes():
        longer = word + bytes([value])
        if longer in table:
            word = longer
            continue
        codes.append((table[word], size))
        if bits < 4096:
            table[longer] = bits
            bits += 1
            size = max(size, min(12, (bits - 1).bit_length()))
        word = bytes([value])
    codes += [(table[word], size), (257, size)]
    number = shift = 0
    for code, width in codes:
        number |= code << shift
        shift += width
    data = number.to_bytes((shift + 7) // 8, "little")
    height, width = gray.shape
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    colours = bytes(value for i in range(256) for value in (i, i, i))
    blocks = b"".join(bytes([len(data[i:i + 255])]) + data[i:i + 255] for i in range(0, len(data), 255))
    path.write_bytes(b"GIF89a" + size + b"\xf7\0\0" + colours + b",\0\0\0\0" + size + b"\0\x08" + blocks + b"\0;")


def tiff():
    rgb, gray = Image.fromarray(photo()), Image.fromarray(photo(1)[..., 0])
    by_pillow("plain.tif", rgb)
    by_pillow("lzw.tif", rgb, compression="tiff_lzw")
    by_pillow("rgba.tif", Image.fromarray(photo(4)), compression="tiff_adobe_deflate")
    by_pillow("gray.tif", gray, compression="packbits")
    by_pillow("palette.tif", rgb.quantize(16))
    by_pillow("bits.tif", gray.convert("1"), compression="group4")
    by_pillow("exif6.tif", rgb, compression="tiff_lzw", exif=orientation(6))
    by_pillow("jpeg.tif", rgb, compression="jpeg", quality=90)
    rgb.convert("CMYK").save(FOLDER / "cmyk.tif", compression="tiff_lzw")
    inks = np.asarray(Image.open(FOLDER / "cmyk.tif"), dtype=np.int32)
    paper = 255 - inks[..., 3:]
    keep("cmyk.tif", (paper - (inks[..., :3] * paper + 127) // 255).astype(np.uint8))
    tiffcp("tiled.tif", "plain.tif", "-t", "-w", "16", "-l", "16", "-c", "lzw")
    tiffcp("planes.tif", "plain.tif", "-p", "separate", "-c", "zip")
    tiffcp("big_endian.tif", "plain.tif", "-B", "-r", "5")
    tiffcp("bigtiff.tif", "plain.tif", "-8", "-c", "lzw")
    deep = photo(3, 65535, np.uint16)
    tifffile.imwrite(FOLDER / "rgb16.tif", deep, photometric="rgb", byteorder=">")
    keep("rgb16.tif", (deep >> 8).astype(np.uint8))
    tifffile.imwrite(FOLDER / "gray16.tif", deep[..., 0], photometric="minisblack")
    keep("gray16.tif", np.repeat((deep[..., :1] >> 8).astype(np.uint8), 3, 2))
    tifffile.imwrite(FOLDER / "white_is_zero.tif", photo(1)[..., 0], photometric="miniswhite")
    keep("white_is_zero.tif", np.repeat(255 - photo(1), 3, 2))
    multiplied = photo(4)
    multiplied[..., :3] = (multiplied[..., :3].astype(int) * multiplied[..., 3:] // 255).astype(np.uint8)
    tifffile.imwrite(FOLDER / "multiplied.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"])
    by_pillow("multiplied.tif")


class Chromaticity(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double), ("Y", ctypes.c_double)]


def profile(primaries=None, gamma=2.2):
    """An ICC profile with these primaries, or of gray."""
    cms = ctypes.CDLL("liblcms2.so.2")
    for name in ("cmsBuildGamma", "cmsCreateRGBProfile", "cmsCreateGrayProfile"):
        getattr(cms, name).restype = ctypes.c_void_p
    curve = ctypes.c_void_p(cms.cmsBuildGamma(None, ctypes.c_double(gamma)))
    white = Chromaticity(0.3127, 0.3290, 1)
    if primaries is None:
        made = cms.cmsCreateGrayProfile(ctypes.byref(white), curve)
    else:
        points = (Chromaticity * 3)(*[Chromaticity(x, y, 1) for x, y in primaries])
        made = cms.cmsCreateRGBProfile(ctypes.byref(white), points, (ctypes.c_void_p * 3)(*[curve] * 3))
    size = ctypes.c_uint32()
    cms.cmsSaveProfileToMem(ctypes.c_void_p(made), None, ctypes.byref(size))
    data = ctypes.create_string_buffer(size.value)
    cms.cmsSaveProfileToMem(ctypes.c_void_p(made), data, ctypes.byref(size))
    return data.raw


def icc():
    """Converted by Pillow's Little CMS."""
    p3 = profile([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)])
    srgb = ImageCms.createProfile("sRGB")

    def convert(name, mode, of):
        image = Image.open(FOLDER / name)
        profile_of = ImageCms.ImageCmsProfile(io.BytesIO(of))
        keep(name, over_white(ImageCms.profileToProfile(image, profile_of, srgb, outputMode=mode)))

    rgb, rgba = Image.fromarray(photo()), Image.fromarray(photo(4))
    rgb.save(FOLDER / "p3.jpg", quality=90, icc_profile=p3)
    rgb.save(FOLDER / "p3.png", icc_profile=p3)
    rgba.save(FOLDER / "p3_alpha.png", icc_profile=p3)
    rgb.save(FOLDER / "p3.webp", lossless=True, icc_profile=p3)
    rgb.save(FOLDER / "p3.tif", compression="tiff_lzw", icc_profile=p3)
    gray = profile(gamma=1.4)
    Image.fromarray(photo(1)[..., 0]).save(FOLDER / "gray_profile.jpg", quality=90, icc_profile=gray)
    for name in ("p3.jpg", "p3.png", "p3.webp", "p3.tif"):
        convert(name, "RGB", p3)
    convert("p3_alpha.png", "RGBA", p3)
    convert("gray_profile.jpg", "RGB", gray)
    run("heif-enc", "-q", "70", FOLDER / "p3.png", "-o", FOLDER / "p3.heic")
    run("heif-convert", FOLDER / "p3.heic", work / "p3.png")
    image = Image.open(work / "p3.png")
    keep("p3.heic", np.asarray(ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(p3)), srgb, outputMode="RGB")))
    # A profile of another kind, a damaged one, and sRGB itself change nothing.
    by_pillow("wrong_profile.png", rgb, icc_profile=gray)
    by_pillow("broken_profile.jpg", rgb, quality=90, icc_profile=p3[:200])
    by_pillow("srgb_profile.jpg", rgb, quality=90, icc_profile=ImageCms.ImageCmsProfile(srgb).tobytes())


def one_pixel():
    image = Image.fromarray(np.full((1, 1, 3), [200, 100, 50], np.uint8))
    for name in ("one.png", "one.tif", "one.gif"):
        by_pillow(name, image)
    image.save(FOLDER / "one.webp", lossless=True)
    by("dwebp", "one.webp")
    image.save(work / "one.png")
    run("cjxl", work / "one.png", FOLDER / "one.jxl", "-d", "0")
    by("djxl", "one.jxl")
    for name in ("one.heic", "one.avif"):
        run("heif-enc", work / "one.png", "-o", FOLDER / name)
        by("heif-convert", name)


FOLDER.mkdir(exist_ok=True)
webp()
heif()
png_and_gif()
tiff()
icc()
jpeg_xl()
one_pixel()
save_file(tensors, FOLDER / "formats.safetensors")
