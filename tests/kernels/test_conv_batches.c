/* An image gets the same bits in a batch of any size: outputs and input gradients. Ranks hold different parts of the
 * batch, and what differs in the last bit can change which proposals NMS keeps. */
#include "base/thread_pool.h"
#include "kernels/conv_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* From far below to far above the size from which 3x3 convolutions go another way. */
static const conv_run_size sizes[] = {
    {5, 7, 9, 32, 48, 3, 3, {1, 1, 1, true, false, 0}, true, true},
    {5, 10, 12, 32, 48, 3, 3, {1, 1, 1, true, false, 0}, true, true},
    {5, 14, 14, 32, 32, 3, 3, {1, 1, 1, true, false, 0}, true, false},
    {5, 19, 15, 64, 32, 3, 3, {1, 1, 1, true, false, 0}, true, true},
    {5, 21, 23, 32, 48, 3, 3, {1, 1, 1, true, false, 0}, true, true},
    {5, 16, 12, 16, 24, 3, 3, {2, 1, 1, true, false, 0}, true, false},
    {5, 20, 26, 3, 24, 7, 7, {2, 3, 1, true, false, 0}, true, false},
    {5, 1, 1, 40, 50, 1, 1, {1, 0, 1, true, false, 0}, true, true},
    {5, 13, 11, 40, 50, 1, 1, {1, 0, 1, true, false, 0}, true, true},
};

/* The images of `t`, from `first`, go into or are compared with all of `part`. */
static char *images_of(const tensor *t, const tensor *part, int64_t first) {
    return (char *)t->data + (size_t)first * tensor_bytes(part) / (size_t)part->shape[0];
}

static void check_part(const conv_run *whole, conv_run_size size, int64_t first, int64_t count) {
    conv_run part;
    size.n = count;
    conv_run_init(&part, &size);
    memcpy(part.in[CONV2D_X].data, images_of(&whole->in[CONV2D_X], &part.in[CONV2D_X], first),
           tensor_bytes(&part.in[CONV2D_X]));
    if (size.residual)
        memcpy(part.in[CONV2D_RESIDUAL].data,
               images_of(&whole->in[CONV2D_RESIDUAL], &part.in[CONV2D_RESIDUAL], first),
               tensor_bytes(&part.in[CONV2D_RESIDUAL]));
    conv_run_kernel(&part, &conv2d_direct, false);
    assert_memory_equal(part.y.data, images_of(&whole->y, &part.y, first), tensor_bytes(&part.y));

    conv_run other; /* `whole` has masked its d_y: this one's comes fresh */
    size.n = whole->y.shape[0];
    conv_run_init(&other, &size);
    memcpy(part.d_y.data, images_of(&other.d_y, &part.d_y, first), tensor_bytes(&part.d_y));
    conv_run_release(&other);
    conv_run_kernel(&part, &conv2d_direct, true);
    const tensor *d_x = &part.d_in[CONV2D_X];
    assert_memory_equal(d_x->data, images_of(&whole->d_in[CONV2D_X], d_x, first), tensor_bytes(d_x));
    conv_run_release(&part);
}

static void test_batch_changes_no_bit(void **state) {
    (void)state;
    thread_pool_start(2);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        conv_run whole;
        conv_run_init(&whole, &sizes[i]);
        conv_run_kernel(&whole, &conv2d_direct, false);
        conv_run_kernel(&whole, &conv2d_direct, true);
        check_part(&whole, sizes[i], 0, 1);
        check_part(&whole, sizes[i], 4, 1);
        check_part(&whole, sizes[i], 2, 2);
        check_part(&whole, sizes[i], 1, 4);
        conv_run_release(&whole);
    }
    thread_pool_stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_batch_changes_no_bit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
