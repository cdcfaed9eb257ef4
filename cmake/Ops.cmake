# kernels/ops.def is the only list of ops. Each OP(name) has a folder kernels/<name>/ with
#   <name>.h       typed call, params, formula, shapes
#   <name>.c       op_def: shape rule, what backward reads, tolerances, cases
#   <name>_cpu.c   reference forward and backward, compiled for float and for double
#   <name>_*.c     (optional) fast CPU variants, float only
# The reference is compiled twice: REAL is float or double, and REAL_NAME(f) appends _f32 or _f64.
function(add_ops_library target)
  file(STRINGS ${PROJECT_SOURCE_DIR}/kernels/ops.def lines REGEX "^OP\\(")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/ops.def)
  set(sources)
  set(references)
  foreach(line ${lines})
    string(REGEX REPLACE "^OP\\(([a-z0-9_]+)\\).*" "\\1" op "${line}")
    set(folder ${PROJECT_SOURCE_DIR}/kernels/${op})
    foreach(file ${op}.h ${op}.c ${op}_cpu.c)
      if(NOT EXISTS ${folder}/${file})
        message(FATAL_ERROR "kernels/ops.def names ${op}, but kernels/${op}/${file} is missing")
      endif()
    endforeach()
    file(GLOB files CONFIGURE_DEPENDS ${folder}/*.c)
    list(REMOVE_ITEM files ${folder}/${op}_cpu.c)
    list(APPEND sources ${files})
    list(APPEND references ${folder}/${op}_cpu.c)
  endforeach()
  file(GLOB shared CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.c)
  foreach(real f32 f64)
    add_library(${target}_${real} OBJECT ${references})
    target_link_libraries(${target}_${real} PUBLIC project_options ${ARGN})
  endforeach()
  target_compile_definitions(${target}_f32 PRIVATE REAL=float REAL_IS_FLOAT=1)
  target_compile_definitions(${target}_f64 PRIVATE REAL=double REAL_IS_FLOAT=0)
  add_library(${target} STATIC ${sources} ${shared} $<TARGET_OBJECTS:${target}_f32> $<TARGET_OBJECTS:${target}_f64>)
  target_link_libraries(${target} PUBLIC project_options ${ARGN})
endfunction()
