/* The number of threads changes no bit of a convolution. */
#include "base/thread_pool.h"
#include "kernels/conv_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const conv_run_size sizes[] = {
    {1, 50, 62, 40, 70, 3, 3, {1, 1, 1, true, false, 0}, true, true},
    {1, 50, 62, 64, 112, 3, 3, {1, 1, 1, true, false, 0}, true, true},
    {30, 7, 7, 20, 33, 3, 3, {1, 1, 1, true, false, 0}, true, false},
    {1, 61, 43, 16, 24, 3, 3, {2, 1, 1, true, false, 0}, true, false},
    {1, 64, 80, 3, 24, 7, 7, {2, 3, 1, true, false, 0}, true, false},
    {1, 40, 40, 64, 100, 1, 1, {1, 0, 1, true, false, 0}, true, true},
};

static void run_both(conv_run *run, int threads, int64_t every) {
    thread_pool_start(threads);
    conv_run_kernel(run, &conv2d_direct, false);
    conv_run_fill(&run->d_y, 9, 1.0f);
    int64_t k = run->y.shape[3], pixels = tensor_count(&run->y) / k;
    for (int64_t i = 0; i < pixels; i++)
        if (i % every) memset(tensor_f32(&run->d_y) + i * k, 0, (size_t)k * sizeof(float));
    conv_run_kernel(run, &conv2d_direct, true);
    thread_pool_stop();
}

static void test_threads_change_no_bit(void **state) {
    (void)state;
    for (size_t size = 0; size < sizeof sizes / sizeof sizes[0]; size++) {
        for (int64_t every = 1; every < 20; every += 8) {
            conv_run one, more;
            conv_run_init(&one, &sizes[size]);
            run_both(&one, 1, every);
            for (int threads = 2; threads <= 3; threads++) {
                conv_run_init(&more, &sizes[size]);
                run_both(&more, threads, every);
                assert_memory_equal(more.y.data, one.y.data, tensor_bytes(&one.y));
                for (int i = 0; i < 4; i++)
                    if (one.call.d_in[i])
                        assert_memory_equal(more.d_in[i].data, one.d_in[i].data, tensor_bytes(&one.d_in[i]));
                conv_run_release(&more);
            }
            conv_run_release(&one);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads_change_no_bit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
