/* maskrcnn env: what this program was built with and what it finds here; asked for in every bug report. */
#include "base/thread_pool.h"
#include "bench/machine.h"
#include "cli/cli.h"
#include "comm/rank_env.h"
#include "device/device.h"
#include "draw/picture.h"
#include "micro.h"

#include <cblas.h>
#include <jpeglib.h>
#include <mpi.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <yajl/yajl_version.h>
#include <yaml.h>
#include <zlib.h>

static void row(const char *name, const char *value) {
    printf("%-14s %s\n", name, value);
}

#define STRING_OF(x) #x
#define VALUE_OF(x) STRING_OF(x)

static void print_mpi(void) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) snprintf(text, sizeof text, "not known");
    text[strcspn(text, ",\n")] = '\0';
    row("MPI", text);
}

static void print_libraries(void) {
    char text[256];
    print_mpi();
    snprintf(text, sizeof text, "%s; kernels for %s", openblas_get_config(), openblas_get_corename());
    row("BLAS", text);
    row("convolutions", micro_best()->name);
    row("zlib", zlibVersion());
    row("libpng", png_get_libpng_ver(NULL));
#ifdef LIBJPEG_TURBO_VERSION
    row("libjpeg", "libjpeg-turbo " VALUE_OF(LIBJPEG_TURBO_VERSION));
#else
    row("libjpeg", VALUE_OF(JPEG_LIB_VERSION));
#endif
    row("libyaml", yaml_get_version_string());
    int v = yajl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    row("yajl", text);
    row("cairo", picture_backend());
}

static void print_cpu(void) {
    char model[MACHINE_NAME];
    machine_cpu_name(model, sizeof model);
    row("CPU", model);
    printf("%-14s %d usable of %ld\n", "cores", thread_pool_usable_cores(), sysconf(_SC_NPROCESSORS_ONLN));
    double gib =
        (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE) / (1024.0 * 1024.0 * 1024.0);
    printf("%-14s %.1f GiB\n", "memory", gib);
}

static void print_system(void) {
    struct utsname u;
    char text[sizeof u];
    if (uname(&u) != 0) return;
    snprintf(text, sizeof text, "%s %s %s", u.sysname, u.release, u.machine);
    row("system", text);
    if (gethostname(text, sizeof text) == 0) row("host", text);
}

static void print_cuda_row(void *context, const char *name, const char *value) {
    (void)context;
    row(name, value);
}

static void print_cuda(void) {
    if (device_describe_cuda(print_cuda_row, NULL) == STATUS_OK) return;
    printf("%-14s not found: %s\n", "CUDA", error_cause());
    error_clear();
}

static status print_ranks(void) {
    rank_env env;
    RETURN_IF_ERROR(rank_env_read(&env));
    printf("%-14s rank %d of %d, %d of %d on this host (%s)\n", "ranks", env.rank, env.size, env.local_rank,
           env.local_size, env.launcher ? env.launcher : "no launcher");
    return STATUS_OK;
}

static void print_variables(void) {
    static const char *const names[] = {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "NO_COLOR",
                                        "TMPDIR"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        printf("%-20s %s\n", names[i], value ? value : "(not set)");
    }
}

static status run(const cli_args *args) {
    (void)args;
    row("maskrcnn", MASKRCNN_VERSION);
    row("compiler", __VERSION__);
    print_libraries();
    print_cuda();
    print_system();
    print_cpu();
    RETURN_IF_ERROR(print_ranks());
    putchar('\n');
    print_variables();
    return STATUS_OK;
}

static const cli_option options[] = {{0}};

const cli_command cmd_env = {
    .name = "env",
    .summary = "what is built in (MPI, BLAS, CUDA, ...) and what is found here",
    .usage = "",
    .examples = {"maskrcnn env", "mpirun -n 2 maskrcnn env", "maskrcnn env > report.txt"},
    .options = options,
    .run = run,
};
