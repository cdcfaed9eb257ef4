# An op of kernels/ops.def has CUDA kernels when kernels/<op>/<op>.cu is there. Sets <out> to those files, and writes
# <build>/generated/cuda_ops.def, the same list for src/cuda/cuda_kernels.c.
set(CUDA_OPS_FOLDER ${PROJECT_BINARY_DIR}/generated)
function(list_cuda_sources out)
  file(STRINGS ${PROJECT_SOURCE_DIR}/kernels/ops.def lines REGEX "^OP\\(")
  file(GLOB present CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*/*.cu)
  set(sources)
  set(table)
  foreach(line ${lines})
    string(REGEX REPLACE "^OP\\(([a-z0-9_]+)\\).*" "\\1" op "${line}")
    set(file ${PROJECT_SOURCE_DIR}/kernels/${op}/${op}.cu)
    if(file IN_LIST present)
      list(APPEND sources ${file})
      string(APPEND table "OP(${op})\n")
    endif()
  endforeach()
  set(helpers ${present})
  list(REMOVE_ITEM helpers ${sources}) # further .cu files in an op's folder
  file(CONFIGURE OUTPUT ${CUDA_OPS_FOLDER}/cuda_ops.def CONTENT "${table}" @ONLY)
  set(${out} ${sources} ${helpers} PARENT_SCOPE)
endfunction()

# The CUDA backend, loaded at run time: libmaskrcnn_cuda.so beside the program. Programs that load it take part through
# allow_plugin: it uses their copy of these rooms, so that error texts, ranks and counters exist once.
set(PLUGIN_ROOMS base device comm autograd kernels)
function(allow_plugin program)
  set(archives)
  foreach(room ${PLUGIN_ROOMS})
    string(APPEND archives ",$<TARGET_FILE:${room}>")
  endforeach()
  target_link_options(${program} PRIVATE "-Wl,--whole-archive${archives},--no-whole-archive")
  set_target_properties(${program} PROPERTIES ENABLE_EXPORTS ON)
endfunction()

# GPU architectures to build for: machine code for each, and PTX of the last for GPUs to come. Tests build one.
if(CMAKE_CUDA_ARCHITECTURES)
  set(cuda_default_architectures ${CMAKE_CUDA_ARCHITECTURES})
elseif(ENABLE_TESTS)
  set(cuda_default_architectures 90)
else()
  set(cuda_default_architectures 80 86 89 90 100 120)
endif()
set(CUDA_ARCHITECTURES "${cuda_default_architectures}" CACHE STRING "GPU architectures of the CUDA backend, e.g. 80;90")

# Sets <objects> and <logs> (what ptxas -v says of each file). nvcc is called by hand: CMake's own CUDA language would ask for
# a C++ compiler test at every configure, and keeps no log.
function(compile_cuda_sources objects logs)
  set(flags -std=c++17 -O3 -D_GNU_SOURCE -I${PROJECT_SOURCE_DIR}/src -I${PROJECT_SOURCE_DIR}/kernels -Xptxas -v
    -Xcompiler -Wall,-Wextra,-fPIC,-fvisibility=hidden,-fno-math-errno,-ffp-contract=off)
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 13)
    list(APPEND flags --compress-mode=size) # a third of the size
  endif()
  if(ENABLE_TESTS)
    list(APPEND flags -Werror all-warnings -Xcompiler -Werror)
  endif()
  foreach(architecture ${CUDA_ARCHITECTURES})
    list(APPEND flags -gencode arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  list(GET CUDA_ARCHITECTURES -1 last)
  list(APPEND flags -gencode arch=compute_${last},code=compute_${last})
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/cuda)
  foreach(file ${ARGN})
    get_filename_component(name ${file} NAME_WE)
    set(object ${PROJECT_BINARY_DIR}/cuda/${name}.o)
    set(log ${PROJECT_BINARY_DIR}/cuda/${name}.ptxas)
    add_custom_command(OUTPUT ${object} ${log} DEPENDS ${file} ${PROJECT_SOURCE_DIR}/cmake/run_nvcc.sh DEPFILE ${object}.d VERBATIM
      COMMENT "Compiling ${name}.cu with nvcc"
      COMMAND ${PROJECT_SOURCE_DIR}/cmake/run_nvcc.sh ${log} ${CMAKE_CUDA_COMPILER} ${flags} -MD -MF ${object}.d -MT ${object}
        -c ${file} -o ${object})
    list(APPEND all_objects ${object})
    list(APPEND all_logs ${log})
  endforeach()
  set(${objects} ${all_objects} PARENT_SCOPE)
  set(${logs} ${all_logs} PARENT_SCOPE)
endfunction()

function(add_cuda_plugin)
  list_cuda_sources(sources)
  compile_cuda_sources(objects logs ${sources})
  add_custom_target(cuda_nvcc_check DEPENDS ${objects} ${logs})
  set(CUDA_PTXAS_LOGS ${logs} CACHE INTERNAL "what ptxas said of each file")

  file(GLOB c_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cuda/*.c)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  if(NOT NCCL_INCLUDE_DIR)
    message(STATUS "nccl.h was not found: ranks will sum gradients through the host's memory")
    list(FILTER c_sources EXCLUDE REGEX "nccl")
  endif()
  if(HAVE_CUDNN)
    file(GLOB cudnn_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cudnn/*.c)
    list(APPEND c_sources ${cudnn_sources})
  else()
    list(FILTER c_sources EXCLUDE REGEX "/(cuda_library_kernels|library_math|lt_api|lt_product)\\.c$")
  endif()
  add_library(maskrcnn_cuda MODULE ${c_sources} ${objects})
  add_dependencies(maskrcnn_cuda cuda_nvcc_check)
  string(REPLACE ";" "," architecture_list "${CUDA_ARCHITECTURES}")
  target_compile_definitions(maskrcnn_cuda PRIVATE CUDA_ARCHITECTURES=${architecture_list} HAVE_NCCL=$<BOOL:${NCCL_INCLUDE_DIR}>
    HAVE_CUDNN=$<BOOL:${HAVE_CUDNN}>)
  target_include_directories(maskrcnn_cuda PRIVATE ${CUDA_OPS_FOLDER})
  target_include_directories(maskrcnn_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${CUDNN_INCLUDE_DIRS})
  if(NCCL_INCLUDE_DIR)
    target_include_directories(maskrcnn_cuda SYSTEM PRIVATE ${NCCL_INCLUDE_DIR})
  endif()
  # The runtime is linked in, so that the plug-in loads on a machine without a driver and can say what is missing. It stays
  # loaded until the program ends: libraries it opens hold pointers into it.
  target_link_libraries(maskrcnn_cuda PRIVATE project_options CUDA::cudart_static -Wl,--as-needed stdc++)
  target_link_options(maskrcnn_cuda PRIVATE -Wl,-z,nodelete -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/plugin.map)
  set_target_properties(maskrcnn_cuda PROPERTIES LINKER_LANGUAGE C LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/plugin.map
    LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  include(GNUInstallDirs)
  install(TARGETS maskrcnn_cuda LIBRARY DESTINATION lib)
endfunction()
