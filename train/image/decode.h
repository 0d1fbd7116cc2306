// From the bytes of a file to an upright 8-bit RGB photo.
//
// JPEG (baseline and progressive), PNG, BMP, GIF, PNM (P5, P6), TGA and what libraries add (formats.h), told apart by
// their first bytes, never by the file's name; of animations the first frame. What becomes of a file that is not 8-bit
// RGB:
//   gray      copied to R, G and B
//   palette   looked up; an index outside of the palette is an error
//   16 bits   high byte; JPEG XL as libjxl rounds
//   alpha     composited over white: (c * a + 255 * (255 - a) + 127) / 255
//   BMP       alpha by its mask only; pixels that run lengths skip have the palette's first colour
//   GIF, WebP transparent where the first frame leaves the screen free
//   CMYK      R = K - round((255 - C) * K / 255) with C and K as Adobe stores them (255 = no ink)
//   EXIF      turned upright by the orientation tag; HEIC, AVIF and JPEG XL by their container's, which EXIF only repeats
//   ICC       converted to sRGB by the embedded profile, before alpha is composited, where lcms2 is built in and if
//             that moves a colour by more than one level; a damaged profile is as none
// //   RAW       (CR2, NEF, ARW, DNG, PEF) the largest JPEG preview in it, which camera makers mean to be looked at: of 1 megapixel
//             or a quarter of the sensor's pixels at least
// Gamma without a profile is not applied.
#pragma once
#include <span>
#include <string>

#include "train/image/image.h"

namespace qfm {

struct DecodeOptions {
  bool exif = true;                  // turn upright by the EXIF orientation
  bool icc = true;                   // convert to sRGB by the ICC profile
  int64_t max_pixels = 200'000'000;  // refuse larger photos, by their header, before anything is allocated
};

struct DecodedPhoto {
  Image image;
  std::string preview_of = {};  // "NEF", "DNG", ...: the JPEG picture in a camera raw file; else empty
};

// Throws Error "PATH: reason": an unreadable or unknown file, one that ends too early ("truncated JPEG at
// byte 5120"), corrupt data, more than max_pixels pixels. Never returns pixels that the file does not hold.
Image decode_image(const std::string& path, const DecodeOptions& options = {});
// The same for bytes in memory; `name` stands for the path in messages.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name,
                   const DecodeOptions& options = {});
DecodedPhoto decode_photo(std::span<const uint8_t> bytes, const std::string& name, const DecodeOptions& options = {});

}  // namespace qfm
