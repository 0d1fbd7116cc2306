#include "kernels/vendor/vendor.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "engine/base/error.h"

namespace qfm {
namespace {

struct Description {
  const char *name, *file, *version_function, *switch_variable, *root_variable, *built_root;
};

Description describe(Vendor vendor) {
  if (vendor == Vendor::CublasLt)
    return {"cublaslt",   "libcublasLt.so.13", "cublasLtGetVersion",
            "QFM_CUBLAS", "CUBLAS_ROOT",       QFM_CUBLAS_ROOT};
  return {"cudnn", "libcudnn.so.9", "cudnnGetVersion", "QFM_CUDNN", "CUDNN_ROOT", QFM_CUDNN_ROOT};
}

std::string value_of(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? value : "";
}

std::vector<std::string> places(const Description& d) {
  std::vector<std::string> paths;
  for (const std::string& root : {value_of(d.root_variable), std::string(d.built_root)})
    if (!root.empty())
      for (const char* folder : {"/", "/lib/", "/lib64/"}) paths.push_back(root + folder + d.file);
  paths.push_back(d.file);
  if (*QFM_TOOLKIT_LIBRARIES) paths.push_back(std::string(QFM_TOOLKIT_LIBRARIES "/") + d.file);
  return paths;
}

}  // namespace

VendorLibrary::VendorLibrary(Vendor vendor) {
  const Description d = describe(vendor);
  const std::string wanted = value_of(d.switch_variable);
  QFM_CHECK(wanted.empty() || wanted == "on" || wanted == "off", d.switch_variable, "=", wanted,
            ": expected on or off");
  text_ = std::string(d.name) + (wanted == "off" ? " off" : " absent");
  if (wanted == "off") return;
  for (const std::string& path : places(d))
    if ((handle_ = ::dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL))) break;
  if (!handle_) return;
  size_t (*version)() = nullptr;
  bind(version, d.version_function);
  version_ = version();
  text_ = concat(d.name, " ", version_ / 10000, ".", version_ / 100 % 100, ".", version_ % 100);
}

void* VendorLibrary::symbol(const char* name) const {
  void* p = handle_ ? ::dlsym(handle_, name) : nullptr;
  QFM_CHECK(p, text_, ": has no ", name);
  return p;
}

const VendorLibrary& VendorLibrary::of(Vendor vendor) {
  if (vendor == Vendor::CublasLt) {
    static const VendorLibrary library(Vendor::CublasLt);
    return library;
  }
  static const VendorLibrary library(Vendor::Cudnn);
  return library;
}

}  // namespace qfm
