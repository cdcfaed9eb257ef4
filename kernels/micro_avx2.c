/* AVX2 with FMA; compiled with those options (cmake/Ops.cmake), run only where the CPU has them. */
#ifdef __AVX2__
#define MICRO_SET micro_avx2
#define MICRO_NAME "AVX2"
#define MICRO_LANES 8
#define MICRO_ROWS 4

extern const struct micro_kernels MICRO_SET;
#include "micro_body.h"
#else
typedef int micro_avx2_is_for_x86_only;
#endif
