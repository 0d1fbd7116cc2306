#include "kernels/vendor/cudnn_graph.h"

#include <algorithm>

#include "engine/base/error.h"
#include "engine/memory/memory.h"
#include "kernels/vendor/vendor.h"
#include "kernels/vendor/vendor_case.h"

namespace qfm::cudnn {
namespace {

constexpr size_t kOldest = 91600;

struct Library {
  decltype(&cudnnCreate) create;
  decltype(&cudnnSetStream) set_stream;
  decltype(&cudnnGetErrorString) error_string;
  decltype(&cudnnGetLastErrorString) last_error_string;
  decltype(&cudnnBackendCreateDescriptor) descriptor_create;
  decltype(&cudnnBackendDestroyDescriptor) descriptor_destroy;
  decltype(&cudnnBackendFinalize) finalize;
  decltype(&cudnnBackendSetAttribute) set;
  decltype(&cudnnBackendGetAttribute) get;
  decltype(&cudnnBackendExecute) execute;

  Library() {
    const VendorLibrary& file = VendorLibrary::of(Vendor::Cudnn);
    QFM_CHECK(file.open() && file.version() >= kOldest, file.text(), ": needed is cudnn 9.16 or later");
    file.bind(create, "cudnnCreate"), file.bind(set_stream, "cudnnSetStream");
    file.bind(error_string, "cudnnGetErrorString"), file.bind(last_error_string, "cudnnGetLastErrorString");
    file.bind(descriptor_create, "cudnnBackendCreateDescriptor");
    file.bind(descriptor_destroy, "cudnnBackendDestroyDescriptor");
    file.bind(finalize, "cudnnBackendFinalize"), file.bind(execute, "cudnnBackendExecute");
    file.bind(set, "cudnnBackendSetAttribute"), file.bind(get, "cudnnBackendGetAttribute");
  }
};

const Library& library() {
  static const Library opened;
  return opened;
}

void check(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char reason[512] = "";
  library().last_error_string(reason, sizeof(reason));
  std::string line = reason;
  std::replace(line.begin(), line.end(), '\n', ' ');
  line = concat("cudnn: ", what, ": ", library().error_string(status), line.empty() ? "" : ": ", line);
  if (status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
      status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)
    throw OutOfMemory(line, __FILE__, __LINE__);
  throw VendorError(line, __FILE__, __LINE__);
}

// `count` descriptors that an attribute of `of` holds; fewer where it holds fewer.
std::vector<Descriptor> read(const Descriptor& of, cudnnBackendAttributeName_t name,
                             cudnnBackendDescriptorType_t type, int64_t count) {
  std::vector<Descriptor> found;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i) raw.push_back(found.emplace_back(type).get());
  check(library().get(of.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, raw.data()), "reading");
  while (static_cast<int64_t>(found.size()) > count) found.pop_back();
  return found;
}

}  // namespace

bool serves() {
  const VendorLibrary& file = VendorLibrary::of(Vendor::Cudnn);
  return file.open() && file.version() >= kOldest;
}

cudnnHandle_t handle() {
  static const cudnnHandle_t made = [] {
    cudnnHandle_t h = nullptr;
    return serves() && library().create(&h) == CUDNN_STATUS_SUCCESS ? h : nullptr;
  }();
  return made;
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  check(library().descriptor_create(type, &p_), "creating a descriptor");
}
Descriptor::~Descriptor() {
  if (p_) library().descriptor_destroy(p_);
}
void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                     const void* values) {
  check(library().set(p_, name, type, count, values), concat("attribute ", static_cast<int>(name)).c_str());
}
void Descriptor::finalize(const char* what) { check(library().finalize(p_), what); }

Graph::Tensor Graph::add(cudnnDataType_t type, const Dims& dims, const Dims& strides, bool is_virtual,
                         bool by_value) {
  const auto id = static_cast<int64_t>(tensors_.size());
  Descriptor& t = tensors_.emplace_back(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  t.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
  t.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
  t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, dims);
  t.set(CUDNN_ATTR_TENSOR_STRIDES, strides);
  t.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{16});
  t.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, is_virtual);
  t.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, by_value);
  t.finalize("tensor");
  return id;
}
Graph::Tensor Graph::tensor(cudnnDataType_t type, const Dims& dims, const Dims& strides) {
  return add(type, dims, strides, false, false);
}
Graph::Tensor Graph::between(cudnnDataType_t type, const Dims& dims, const Dims& strides) {
  return add(type, dims, strides, true, false);
}
Graph::Tensor Graph::scalar() { return add(CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, false, true); }

void Graph::pointwise(cudnnPointwiseMode_t mode, Tensor y, Tensor x) { pointwise(mode, y, x, -1); }
void Graph::pointwise(cudnnPointwiseMode_t mode, Tensor y, Tensor x, Tensor b) {
  Descriptor& what = operators_.emplace_back(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  what.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  what.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
  what.finalize("pointwise");
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, what);
  op.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors_[x]);
  if (b >= 0) op.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors_[b]);
  op.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors_[y]);
  op.finalize("pointwise operation");
}

void Graph::sum(Tensor y, Tensor x) {
  const cudnnReduceTensorOp_t add_up = CUDNN_REDUCE_TENSOR_ADD;
  Descriptor& what = operators_.emplace_back(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  what.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &add_up);
  what.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  what.finalize("reduction");
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, what);
  op.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, tensors_[x]);
  op.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, tensors_[y]);
  op.finalize("reduction operation");
}

void Graph::matmul(Tensor c, Tensor a, Tensor b) {
  Descriptor& what = operators_.emplace_back(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  what.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
  what.finalize("matmul");
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, what);
  op.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, tensors_[a]);
  op.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, tensors_[b]);
  op.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, tensors_[c]);
  op.finalize("matmul operation");
}

void Graph::reshape(Tensor y, Tensor x) {
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, tensors_[x]);
  op.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, tensors_[y]);
  op.finalize("reshape operation");
}

void Graph::attention(Tensor o, Tensor stats, Tensor q, Tensor k, Tensor v, Tensor scale) {
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, tensors_[q]);
  op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, tensors_[k]);
  op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, tensors_[v]);
  op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, tensors_[o]);
  op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, tensors_[scale]);
  if (stats >= 0) op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, tensors_[stats]);
  op.finalize("attention operation");
}

void Graph::layernorm(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w, Tensor b, Tensor eps) {
  const cudnnBackendNormMode_t mode = CUDNN_LAYER_NORM;
  const cudnnBackendNormFwdPhase_t phase = CUDNN_NORM_FWD_TRAINING;
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE, 1, &phase);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, tensors_[x]);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, tensors_[w]);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, tensors_[b]);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, tensors_[eps]);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, tensors_[mean]);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, tensors_[rstd]);
  op.set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, tensors_[y]);
  op.finalize("layernorm operation");
}

Descriptor& Graph::convolution_windows(const Windows& windows) {
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  Descriptor& what = operators_.emplace_back(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  what.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  what.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  what.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2});
  what.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, windows.strides);
  what.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, windows.before);
  what.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, windows.after);
  what.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, windows.dilations);
  what.finalize("convolution");
  return what;
}
void Graph::convolution(Tensor y, Tensor x, Tensor w, const Windows& windows) {
  const Descriptor& what = convolution_windows(windows);
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, what);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, tensors_[x]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, tensors_[w]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, tensors_[y]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0);
  op.finalize("convolution operation");
}
void Graph::convolution_dx(Tensor dx, Tensor dy, Tensor w, const Windows& windows) {
  const Descriptor& what = convolution_windows(windows);
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, what);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, tensors_[dx]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, tensors_[dy]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, tensors_[w]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1.0);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 0.0);
  op.finalize("convolution gradient of the image");
}
void Graph::convolution_dw(Tensor dw, Tensor dy, Tensor x, const Windows& windows) {
  const Descriptor& what = convolution_windows(windows);
  Descriptor& op = operations_.emplace_back(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, what);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, tensors_[dw]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, tensors_[dy]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, tensors_[x]);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 1.0);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 0.0);
  op.finalize("convolution gradient of the weight");
}

Descriptor device_of(cudnnHandle_t handle) {
  Descriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.set(CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  device.finalize("device of a handle");
  return device;
}
Descriptor device_from_json(const std::string& json) {
  Descriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<int64_t>(json.size()),
             json.data());
  device.finalize("device from JSON");
  return device;
}

EngineConfigs::EngineConfigs(const Graph& graph, const Descriptor& device, const char* what) {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const Descriptor& operation : graph.operations()) operations.push_back(operation.get());
  Descriptor whole(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  whole.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            static_cast<int64_t>(operations.size()), operations.data());
  whole.finalize(what);
  const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, whole);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
  heuristics.finalize(what);
  int64_t count = 0;
  check(library().get(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                      &count, nullptr),
        what);
  auto found = read(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, count);
  for (Descriptor& config : found) {
    configs_.push_back(std::move(config));
    if (graph.true_f32 && (has(size() - 1, CUDNN_NUMERICAL_NOTE_TENSOR_CORE) ||
                           has(size() - 1, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)))
      configs_.pop_back();
  }
}

bool EngineConfigs::has(size_t i, cudnnBackendNumericalNote_t note) const {
  const auto engine = read(configs_[i], CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  int64_t count = 0;
  check(library().get(engine.front().get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                      CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes),
        "reading notes");
  return std::find(notes, notes + count, note) != notes + count;
}

bool EngineConfigs::deterministic(size_t i) const { return !has(i, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC); }

size_t EngineConfigs::deterministic() const {
  size_t count = 0;
  for (size_t i = 0; i < size(); ++i) count += deterministic(i);
  return count;
}

Plan::Plan(const EngineConfigs& suggestions, const Descriptor& device, const char* what) {
  std::string reason = "no suggestion is deterministic";
  for (size_t i = 0; i < suggestions.size(); ++i) {
    if (!suggestions.deterministic(i)) continue;
    try {
      Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, suggestions.config(i));
      plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
      plan.finalize(what);
      int64_t one = 0;
      check(library().get(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &one,
                          &workspace_bytes_),
            "workspace");
      plan_.emplace(std::move(plan));
      return;
    } catch (const VendorError& e) {
      reason = e.what();
    }
  }
  QFM_FAIL("cudnn: ", what, ": ", reason);
}

void Plan::run(Cuda cuda, std::span<const Argument> arguments) const {
  std::vector<int64_t> ids;
  std::vector<const void*> pointers;
  for (const Argument& a : arguments) ids.push_back(a.tensor), pointers.push_back(a.data);
  const auto count = static_cast<int64_t>(ids.size());
  const DeviceScratch workspace(static_cast<size_t>(workspace_bytes_));
  const void* scratch = workspace.as<void>();
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch);
  pack.finalize("arguments");
  check(library().set_stream(handle(), static_cast<cudaStream_t>(cuda.stream)), "stream");
  check(library().execute(handle(), plan_->get(), pack.get()), "execution");
}

}  // namespace qfm::cudnn
