// Inside of decode_heif.
#pragma once

namespace qfm::decoders {

// From now on libheif decodes HEVC by our plugin: a picture that is damaged or has holes is an error.
void register_hevc_decoder();

}  // namespace qfm::decoders
