# Picks one of CUDA's three worlds: QFM_CUDA_WORLD = device, host or off. Nothing asks for a GPU: machine code is made
# for the chips listed in QFM_CUDA_ARCHITECTURES, and PTX for later ones. Programs to deploy and those under a sanitizer
# get CUDA only when asked for by name.
set(QFM_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual" CACHE STRING "Chips of the device build, as CMake writes them")

find_program(QFM_NVCC nvcc PATHS /usr/local/cuda/bin)
if(NOT QFM_CUDA MATCHES "^(auto|device|host|off)$")
  message(FATAL_ERROR "QFM_CUDA=${QFM_CUDA}: use auto, device, host or off")
elseif(NOT QFM_CUDA STREQUAL "auto")
  set(QFM_CUDA_WORLD ${QFM_CUDA})
elseif(QFM_NVCC AND NOT QFM_DEPLOY AND NOT QFM_SANITIZE)
  set(QFM_CUDA_WORLD device)
else()
  set(QFM_CUDA_WORLD off)
endif()

if(QFM_RACE AND (NOT QFM_CUDA_WORLD STREQUAL "host" OR QFM_SANITIZE))
  message(FATAL_ERROR "QFM_RACE needs QFM_CUDA=host and no QFM_SANITIZE")
endif()

if(QFM_CUDA_WORLD STREQUAL "device")
  if(NOT QFM_NVCC)
    message(FATAL_ERROR "QFM_CUDA=device: no nvcc in PATH or /usr/local/cuda/bin (-DQFM_NVCC=PATH)")
  endif()
  set(CMAKE_CUDA_COMPILER ${QFM_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${QFM_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26 has not heard that nvcc 12 knows C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  endif()
  target_compile_definitions(qfm_flags INTERFACE QFM_CUDA_DEVICE)
  # As for C++: no contraction; host-CUDA and GPU then do the same arithmetic.
  target_compile_options(qfm_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false
    $<$<BOOL:${QFM_WERROR}>:-Werror=all-warnings> $<$<BOOL:${QFM_WERROR}>:-Xcompiler=-Werror>
    -Xcompiler=-Wall,-Wextra,-ffp-contract=off,-fno-strict-aliasing>)
elseif(QFM_CUDA_WORLD STREQUAL "host")
  target_compile_definitions(qfm_flags INTERFACE QFM_CUDA_HOST)
  if(QFM_RACE)
    target_compile_definitions(qfm_flags INTERFACE QFM_CUDA_RACE)
  endif()
  # Kernels say fmaf in their innermost loops: without the instruction each is a call of libm, with the same bits.
  include(CheckCXXSourceRuns)
  check_cxx_source_runs("int main() { return __builtin_cpu_supports(\"fma\") ? 0 : 1; }" QFM_HOST_HAS_FMA)
endif()

# qfm_cuda_sources(target a.cu ...): CUDA by nvcc, C++ by the host compiler, or nothing.
function(qfm_cuda_sources target)
  if(QFM_CUDA_WORLD STREQUAL "off")
    return()
  endif()
  target_sources(${target} PRIVATE ${ARGN})
  if(QFM_CUDA_WORLD STREQUAL "host")
    # Compiled for ThreadSanitizer, linked with engine/cuda/host/race/hooks.cpp instead.
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX
      COMPILE_OPTIONS "-Wno-unknown-pragmas;$<$<BOOL:${QFM_HOST_HAS_FMA}>:-mfma>;$<$<BOOL:${QFM_RACE}>:-fsanitize=thread;-g>")
  endif()
endfunction()
