// NVIDIA's kernel libraries. They are large (cuBLASLt has 500 MB) and may be absent, so nothing links them:
// each is opened by name when it is first wanted. Where it is absent, too old or switched off, our own
// kernels serve.
#pragma once
#include <cstddef>
#include <string>

namespace qfm {

enum class Vendor { CublasLt, Cudnn };

class VendorLibrary {
 public:
  // Opens it at the first call. Looked for in the folder that CUBLAS_ROOT or CUDNN_ROOT names (the
  // environment first, then what the build was given; its lib and lib64 too, so a Python wheel's nvidia/cudnn
  // is one), where the system keeps libraries, and in the toolkit that compiled the program. QFM_CUBLAS=off
  // and QFM_CUDNN=off keep it closed. Throws Error for another value of these two.
  static const VendorLibrary& of(Vendor vendor);

  bool open() const { return handle_ != nullptr; }
  // 130100 = 13.1.0, 91900 = 9.19.0; 0 where it is not open.
  size_t version() const { return version_; }
  // "cublaslt 13.1.0", "cudnn off", "cudnn absent".
  const std::string& text() const { return text_; }

  // The function of that name, as the vendor's header declares it. Throws Error where the library has none.
  template <class F>
  void bind(F*& function, const char* name) const {
    function = reinterpret_cast<F*>(symbol(name));
  }

 private:
  explicit VendorLibrary(Vendor vendor);
  void* symbol(const char* name) const;

  void* handle_ = nullptr;
  size_t version_ = 0;
  std::string text_;
};

}  // namespace qfm
