#include "bench/machine.h"

#include "base/thread_pool.h"
#include "bench/json_output.h"
#include "bench/peak.h"

#include <cblas.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

void machine_cpu_name(char *text, size_t size) {
    char line[512];
    snprintf(text, size, "not known");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value) continue;
        snprintf(text, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
        break;
    }
    if (f) fclose(f);
}

static void add_row(void *context, const char *name, const char *value) {
    machine *m = context;
    if (m->row_count == MACHINE_ROWS) return;
    struct machine_row *row = &m->rows[m->row_count++];
    snprintf(row->name, sizeof row->name, "%s", name);
    snprintf(row->value, sizeof row->value, "%s", value);
}

void machine_describe(machine *m, device *dev) {
    *m = (machine){.cores = thread_pool_usable_cores(), .threads = thread_pool_size()};
    machine_cpu_name(m->cpu, sizeof m->cpu);
    snprintf(m->blas, sizeof m->blas, "%s; kernels for %s", openblas_get_config(), openblas_get_corename());
    struct utsname u;
    if (uname(&u) == 0)
        snprintf(m->system, sizeof m->system, "%.40s %.60s %.20s", u.sysname, u.release, u.machine);
    m->memory_gib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE) / (1 << 30);
    snprintf(m->device, sizeof m->device, "%s", dev ? device_get_name(dev) : "cpu");
    if (dev && device_get_kind(dev) == DEVICE_CUDA && device_describe_cuda(add_row, m) != STATUS_OK)
        error_clear();
}

status machine_measure(machine *m, device *dev, dtype storage, bool tf32) {
    m->gemm_type = tf32 ? "TF32" : dtype_name(storage);
    RETURN_IF_ERROR(peak_gemm(&m->gemm_gflops, dev, storage, tf32));
    return peak_memory(&m->memory_gb_per_s, dev);
}

void machine_print(const machine *m, FILE *to) {
    fprintf(to, "maskrcnn %s on %s, %d of %d cores, %.1f GiB, %s\n", MASKRCNN_VERSION, m->cpu, m->threads,
            m->cores, m->memory_gib, m->system);
    fprintf(to, "BLAS: %s\n", m->blas);
    if (strcmp(m->device, "cpu") != 0) fprintf(to, "device: %s\n", m->device);
    for (int i = 0; i < m->row_count; i++) fprintf(to, "%s: %s\n", m->rows[i].name, m->rows[i].value);
    if (m->gemm_gflops > 0)
        fprintf(to, "measured peaks: %.0f GFLOP/s (product of %s matrices), %.1f GB/s (memory)\n",
                m->gemm_gflops, m->gemm_type, m->memory_gb_per_s);
}

void machine_write_json(json_writer *w, const machine *m) {
    json_write_key(w, "machine");
    json_write_begin_object(w);
    json_output_text(w, "version", MASKRCNN_VERSION);
    json_output_text(w, "compiler", __VERSION__);
    json_output_text(w, "system", m->system);
    json_output_text(w, "cpu", m->cpu);
    json_output_f64(w, "cores", m->cores);
    json_output_f64(w, "threads", m->threads);
    json_output_f64(w, "memory_gib", m->memory_gib);
    json_output_text(w, "blas", m->blas);
    json_output_text(w, "device", m->device);
    for (int i = 0; i < m->row_count; i++) json_output_text(w, m->rows[i].name, m->rows[i].value);
    if (m->gemm_gflops > 0) {
        json_output_text(w, "gemm_type", m->gemm_type);
        json_output_f64(w, "gemm_gflops", m->gemm_gflops);
        json_output_f64(w, "memory_gb_per_s", m->memory_gb_per_s);
    }
    json_write_end_object(w);
}
