#include "kernels/gemm/gemm_cublas.h"

#include <cublasLt.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <vector>

#include "engine/base/error.h"
#include "engine/memory/memory.h"
#include "kernels/gemm/gemm_layout.h"
#include "kernels/pointwise/map.h"
#include "kernels/reduce/reduce.h"
#include "kernels/vendor/kernel_policy.h"
#include "kernels/vendor/vendor.h"
#include "kernels/vendor/vendor_case.h"

namespace qfm::cublas {
namespace {

// The functions that we call, and the library's handle. Empty handle: the library does not serve here.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetStatusName) status_name;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) suggest;
  decltype(&cublasLtMatmulDescCreate) matmul_create;
  decltype(&cublasLtMatmulDescDestroy) matmul_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) matmul_set;
  decltype(&cublasLtMatrixLayoutCreate) matrix_create;
  decltype(&cublasLtMatrixLayoutDestroy) matrix_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  cublasLtHandle_t handle = nullptr;

  Library() {
    const VendorLibrary& file = VendorLibrary::of(Vendor::CublasLt);
    if (!file.open()) return;
    file.bind(create, "cublasLtCreate"), file.bind(status_name, "cublasLtGetStatusName");
    file.bind(matmul, "cublasLtMatmul"), file.bind(suggest, "cublasLtMatmulAlgoGetHeuristic");
    file.bind(matmul_create, "cublasLtMatmulDescCreate");
    file.bind(matmul_destroy, "cublasLtMatmulDescDestroy");
    file.bind(matmul_set, "cublasLtMatmulDescSetAttribute");
    file.bind(matrix_create, "cublasLtMatrixLayoutCreate");
    file.bind(matrix_destroy, "cublasLtMatrixLayoutDestroy");
    file.bind(preference_create, "cublasLtMatmulPreferenceCreate");
    file.bind(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    file.bind(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    if (create(&handle) != CUBLAS_STATUS_SUCCESS) handle = nullptr;
  }
};

const Library& library() {
  static const Library opened;
  return opened;
}

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const std::string reason = concat("cublaslt: ", what, ": ", library().status_name(status));
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw OutOfMemory(reason, __FILE__, __LINE__);
  throw VendorError(reason, __FILE__, __LINE__);
}

cudaDataType_t cuda_type(DType t) { return t == DType::BF16 ? CUDA_R_16BF : CUDA_R_32F; }

// Sets one attribute of the type that the header gives it.
template <class Attribute, class Descriptor, class Value>
void set(cublasStatus_t (*setter)(Descriptor, Attribute, const void*, size_t), Descriptor descriptor,
         Attribute attribute, const Value& value) {
  check(setter(descriptor, attribute, &value, sizeof(value)), "setting an attribute");
}

// What cuBLASLt allocates, and how it gives it back.
template <class Pointer>
struct Owned {
  Pointer p = nullptr;
  cublasStatus_t (*destroy)(Pointer);
  explicit Owned(cublasStatus_t (*destroy)(Pointer)) : destroy(destroy) {}
  ~Owned() {
    if (p) destroy(p);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
};

// The largest power of two up to 256 that divides all the addresses: cuBLASLt assumes 256 unless told.
uint32_t alignment_of(const void* p) {
  const auto bits = reinterpret_cast<uintptr_t>(p) | 256;
  return static_cast<uint32_t>(bits & ~(bits - 1));
}

// The five pointers of a matmul; vector is the bias or its gradient.
struct Operands {
  const void *a, *b, *c;
  void *d, *vector;
  std::array<uint32_t, 5> alignments() const {
    return {alignment_of(a), alignment_of(b), alignment_of(c), alignment_of(d), alignment_of(vector)};
  }
};

// Descriptors of one product and cuBLASLt's suggestions for it, best first.
class Product {
 public:
  Product(const GemmLayout& layout, bool tf32, const Operands& operands)
      : layout_(layout),
        matmul_(library().matmul_destroy),
        a_(library().matrix_destroy),
        b_(library().matrix_destroy),
        d_(library().matrix_destroy) {
    const Library& lt = library();
    const bool f32 = layout.a.type == DType::F32;
    check(lt.matmul_create(&matmul_.p, f32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                           CUDA_R_32F),
          "describing a product");
    describe(CUBLASLT_MATMUL_DESC_TRANSA, layout.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    describe(CUBLASLT_MATMUL_DESC_TRANSB, layout.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    describe(CUBLASLT_MATMUL_DESC_EPILOGUE,
             layout.epilogue == GemmLayout::Epilogue::Bias           ? CUBLASLT_EPILOGUE_BIAS
             : layout.epilogue == GemmLayout::Epilogue::BiasGeluTanh ? CUBLASLT_EPILOGUE_GELU_BIAS
             : layout.epilogue == GemmLayout::Epilogue::BiasGradB    ? CUBLASLT_EPILOGUE_BGRADB
                                                                     : CUBLASLT_EPILOGUE_DEFAULT);
    create(a_.p, layout.a), create(b_.p, layout.b), create(d_.p, layout.d);
    suggest(operands);
  }

  int suggestions() const { return static_cast<int>(suggested_.size()); }

  void run(int algorithm, const Operands& o, cudaStream_t stream) {
    point_at_vector(o);
    const auto& chosen = suggested_[static_cast<size_t>(algorithm)];
    std::optional<DeviceScratch> workspace;
    if (chosen.workspaceSize > 0) workspace.emplace(chosen.workspaceSize);
    const float alpha = 1;
    check(library().matmul(library().handle, matmul_.p, &alpha, o.a, a_.p, o.b, b_.p, &layout_.beta, o.c,
                           d_.p, o.d, d_.p, &chosen.algo, workspace ? workspace->as<void>() : nullptr,
                           chosen.workspaceSize, stream),
          "matmul");
  }

 private:
  template <class Value>
  void describe(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    set(library().matmul_set, matmul_.p, attribute, value);
  }
  static void create(cublasLtMatrixLayout_t& to, const GemmLayout::Matrix& m) {
    check(library().matrix_create(&to, cuda_type(m.type), static_cast<uint64_t>(m.rows),
                                  static_cast<uint64_t>(m.cols), m.ld),
          "describing a matrix");
  }
  void point_at_vector(const Operands& o) {
    if (layout_.epilogue != GemmLayout::Epilogue::None) describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, o.vector);
  }

  // Split sums are added in F32 and in order, in memory of their own: the same bits every time.
  void suggest(const Operands& o) {
    constexpr uint64_t workspace = 32 << 20;  // what NVIDIA recommends for Hopper
    const Library& lt = library();
    Owned<cublasLtMatmulPreference_t> wish(lt.preference_destroy);
    check(lt.preference_create(&wish.p), "describing a wish");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      set(lt.preference_set, wish.p, attribute, value);
    };
    const auto alignments = o.alignments();
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments[0]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments[1]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments[2]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments[3]);
    point_at_vector(o);  // its alignment is read from it
    suggested_.resize(kMostAlgorithms);
    int found = 0;
    const cublasStatus_t status = lt.suggest(lt.handle, matmul_.p, a_.p, b_.p, d_.p, d_.p, wish.p,
                                             kMostAlgorithms, suggested_.data(), &found);
    // NOT_SUPPORTED is the usual way to refuse, but which status a version has for an epilogue, an
    // alignment or a pair of types that it does not know is its own affair (INVALID_VALUE,
    // ARCH_MISMATCH, INTERNAL_ERROR), and nothing has run that could be broken. Only missing memory says
    // nothing of the product.
    if (status == CUBLAS_STATUS_ALLOC_FAILED) check(status, "asking for algorithms");
    if (status != CUBLAS_STATUS_SUCCESS) found = 0;
    suggested_.resize(static_cast<size_t>(found));
    std::erase_if(suggested_, [](const auto& s) { return s.state != CUBLAS_STATUS_SUCCESS; });
  }

  GemmLayout layout_;
  Owned<cublasLtMatmulDesc_t> matmul_;
  Owned<cublasLtMatrixLayout_t> a_, b_, d_;
  std::vector<cublasLtMatmulHeuristicResult_t> suggested_;
};

// Everything that decides which product serves.
using Key = std::tuple<int64_t, int64_t, int64_t, bool, bool, DType, DType, float, GemmLayout::Epilogue,
                       std::array<uint32_t, 5>>;

// Kept for the life of the program, and never destroyed: the library may be unloaded first.
// Guarded by `mutex`.
struct Products {
  std::mutex mutex;
  std::map<Key, std::unique_ptr<Product>> of;
};
Products& products() {
  static auto* kept = new Products;
  return *kept;
}

Product& product(const GemmLayout& l, const Operands& o) {
  const Key key{l.d.rows,      l.d.cols,  l.trans_a ? l.a.rows : l.a.cols,
                l.trans_a,     l.trans_b, l.a.type,
                l.d.type,      l.beta,    l.epilogue,
                o.alignments()};
  auto& kept = products().of[key];
  if (!kept) kept = std::make_unique<Product>(l, tf32_wanted(), o);
  return *kept;
}

// Asks the library for the product named key(), by the suggestion of that number. `others`: whether it has
// suggestions, only fewer.
template <class Key>
bool serve(Cuda cuda, int algorithm, const Key& key, const GemmLayout& layout, const Operands& o,
           bool& others) {
  others = false;
  const auto name = [&] { return concat(key(), " = vendor ", algorithm); };
  return served_by_vendor(name, [&] {
    const std::lock_guard lock(products().mutex);
    Product& p = product(layout, o);
    others = 0 < p.suggestions() && p.suggestions() <= algorithm;
    if (algorithm >= p.suggestions()) return false;
    p.run(algorithm, o, static_cast<cudaStream_t>(cuda.stream));
    return true;
  });
}

}  // namespace

template <class T, class Out>
bool gemm_by(Cuda cuda, int algorithm, const GemmShape& s, Out* c, const T* a, const T* b,
             const GemmEpilogue<T>& e) {
  GemmFusion fusion = fusion_of(e);
  auto plan = gemm_plan(s, dtype_of<T>, dtype_of<Out>, fusion);
  if (!plan || !library().handle) return false;
  void* to = plan->into_pre_gelu ? static_cast<void*>(e.pre_gelu) : c;
  if (e.residual && e.residual == to) return false;  // in place: a failure would leave nothing to start from
  Operands operands{b, a, e.residual ? static_cast<const void*>(e.residual) : to, to,
                    e.bias ? const_cast<T*>(e.bias) : static_cast<void*>(e.sum_a)};
  bool others = false;
  const auto served = [&] {
    return serve(
        cuda, algorithm, [&] { return gemm_key(s, dtype_of<T>, dtype_of<Out>, fusion); }, plan->layout,
        operands, others);
  };
  if (!served()) {
    if (!e.sum_a || others) return false;
    plan->layout.epilogue = GemmLayout::Epilogue::None;  // then without the sums
    operands.vector = nullptr, fusion.sum_a = false;
    if (!served()) return false;
    reduce_sum(cuda, {1, s.k, s.m}, e.sum_a, a);
  }
  if constexpr (std::is_same_v<T, Out>) {
    if (plan->after == GemmPlan::After::Gelu)
      map(cuda, fn::Gelu{}, flat_space<1>(s.m * s.n), c, MapInputs<T, 1>{{plan->into_pre_gelu ? e.pre_gelu : c}});
    if (plan->after == GemmPlan::After::GeluGrad)
      map(cuda, fn::Derivative<fn::Gelu>{}, flat_space<2>(s.m * s.n), c, MapInputs<T, 2>{{c, e.times_gelu_grad_of}});
  }
  return true;
}

template <class T, class Out>
bool gemm(Cuda cuda, const GemmShape& s, Out* c, const T* a, const T* b, const GemmEpilogue<T>& e) {
  const GemmFusion fusion = fusion_of(e);
  const Choice choice =
      choose([&] { return gemm_key(s, dtype_of<T>, dtype_of<Out>, fusion); }, by_rule(fusion));
  return choice.vendor && gemm_by(cuda, choice.algorithm, s, c, a, b, e);
}

bool gemm_bias_gelu_tanh(Cuda cuda, const GemmShape& s, bf16* c, const bf16* a, const bf16* b,
                         const bf16* bias) {
  auto plan = gemm_plan(s, DType::BF16, DType::BF16, {.bias = true});
  if (!plan || !library().handle) return false;
  plan->layout.epilogue = GemmLayout::Epilogue::BiasGeluTanh;
  const auto key = [&] { return gemm_key(s, DType::BF16, DType::BF16, {.bias = true}) + " gelu_tanh"; };
  bool others = false;
  return serve(cuda, 0, key, plan->layout, {b, a, c, c, const_cast<bf16*>(bias)}, others);
}

#define QFM_INSTANTIATE(T, Out)                                                                 \
  template bool gemm(Cuda, const GemmShape&, Out*, const T*, const T*, const GemmEpilogue<T>&); \
  template bool gemm_by(Cuda, int, const GemmShape&, Out*, const T*, const T*, const GemmEpilogue<T>&);
QFM_INSTANTIATE(float, float)
QFM_INSTANTIATE(bf16, bf16)
QFM_INSTANTIATE(bf16, float)
#undef QFM_INSTANTIATE

}  // namespace qfm::cublas
