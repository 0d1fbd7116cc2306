# The vendor's libraries, opened when they are first wanted (vendor.h): only their headers are needed here.
set(CUBLAS_ROOT "" CACHE PATH "Folder with include and lib of another cuBLASLt 13 than the toolkit's")
set(CUDNN_ROOT "" CACHE PATH "Folder with include and lib of cuDNN 9: a Python wheel's nvidia/cudnn is one")
target_sources(qfm_kernels PRIVATE vendor.cpp)
target_link_libraries(qfm_kernels PUBLIC ${CMAKE_DL_LIBS})
target_compile_definitions(qfm_kernels PUBLIC QFM_WITH_VENDORS)
set_source_files_properties(vendor.cpp PROPERTIES COMPILE_DEFINITIONS
  "QFM_CUBLAS_ROOT=\"${CUBLAS_ROOT}\";QFM_CUDNN_ROOT=\"${CUDNN_ROOT}\";QFM_TOOLKIT_LIBRARIES=\"${CUDAToolkit_LIBRARY_DIR}\"")
function(qfm_vendor_sources target name header root)  # X_NAME.cpp ..., if the header is there
  string(TOUPPER ${name} NAME)
  find_path(QFM_${NAME}_INCLUDE ${header} HINTS ${root}/include ${CUDAToolkit_INCLUDE_DIRS})
  if(NOT QFM_${NAME}_INCLUDE)
    message(STATUS "No ${header} (-D${NAME}_ROOT=FOLDER): our own kernels serve")
    return()
  endif()
  target_sources(${target} PRIVATE ${ARGN})
  target_compile_definitions(${target} PUBLIC QFM_WITH_${NAME})
  set_source_files_properties(${ARGN} PROPERTIES INCLUDE_DIRECTORIES
    "${QFM_${NAME}_INCLUDE};${CUDAToolkit_INCLUDE_DIRS}")
endfunction()
qfm_vendor_sources(qfm_kernels cublas cublasLt.h "${CUBLAS_ROOT}" gemm_cublas.cpp)
qfm_vendor_sources(qfm_kernels cudnn cudnn.h "${CUDNN_ROOT}" attention_cudnn.cpp graph_cudnn.cpp patch_embed_cudnn.cpp)
