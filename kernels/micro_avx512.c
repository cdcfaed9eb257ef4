/* AVX-512; compiled with those options (cmake/Ops.cmake), run only where the CPU has them. */
#ifdef __AVX512F__
#define MICRO_SET micro_avx512
#define MICRO_NAME "AVX-512"
#define MICRO_LANES 16
#define MICRO_ROWS 8

extern const struct micro_kernels MICRO_SET;
#include "micro_body.h"
#else
typedef int micro_avx512_is_for_x86_only;
#endif
