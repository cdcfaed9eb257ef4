/* For headers of inline functions that the references (float and double) and the float kernels share: REAL is
 * what the build of a reference says, and float everywhere else. Mathematical functions come from <tgmath.h>. */
#ifndef KERNELS_REAL_TYPE_H
#define KERNELS_REAL_TYPE_H

#include <tgmath.h>

#ifndef REAL
#define REAL float
#endif

#endif
