/* comm_nccl against a stand-in for NCCL that checks every call's arguments and place in the order of streams and events, and sums
 * through MPI; run with 2 and 4 ranks. As `test_comm_nccl lost` under mpirun: a rank is lost. */
#include "cuda/comm_nccl.h"

#include "base/check.h"
#include "device/device_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <mpi.h>
#include <cmocka.h>

enum { LOG_SIZE = 64, BUSY_ANSWERS = 3 };

static struct stand_in {
    char log[LOG_SIZE][32];
    int log_count, busy; /* answers "in progress" so often before it is done */
    ncclResult_t state;
    int finalized, destroyed;
} fake;

static rank_env env;
static comm *host;
static device *dev;
static device_ops table;
static int compute_stream, comm_stream;

/* ---- a device that notes what is queued where ----------------------------------------------------------- */

static void note(const char *format, const char *what, const void *stream) {
    assert_true(fake.log_count < LOG_SIZE);
    snprintf(fake.log[fake.log_count++], sizeof fake.log[0], format, what,
             stream == &comm_stream ? "comm" : "compute");
}

static void note_record(device *d, device_event *event, device_stream *stream) {
    (void)d, (void)event;
    note("%s %s", "record", stream);
}
static void note_wait(device *d, device_stream *stream, device_event *event) {
    (void)d, (void)event;
    note("%s %s", "wait", stream);
}

static void open_device(void) {
    assert_int_equal(device_open(&dev, "cpu"), STATUS_OK);
    table = *dev->ops;
    table.event_record = note_record;
    table.event_wait = note_wait;
    dev->ops = &table;
    dev->streams[DEVICE_STREAM_COMPUTE] = (device_stream *)&compute_stream;
    dev->streams[DEVICE_STREAM_COMM] = (device_stream *)&comm_stream;
}

/* ---- the stand-in ----------------------------------------------------------------------------------------- */

static const char id_text[] = "the one id of this job";

static ncclResult_t fake_unique_id(ncclUniqueId *id) {
    assert_int_equal(env.rank, 0);
    memset(id, 0, sizeof *id);
    memcpy(id->internal, id_text, sizeof id_text);
    return ncclSuccess;
}

static ncclResult_t fake_init(ncclComm_t *c, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
    assert_int_equal(ranks, env.size);
    assert_int_equal(rank, env.rank);
    assert_string_equal(id.internal, id_text);
    assert_int_equal(config->blocking, 0);
    *c = (ncclComm_t)&fake;
    fake.busy = BUSY_ANSWERS;
    return ncclInProgress;
}

static ncclResult_t fake_async_error(ncclComm_t c, ncclResult_t *state) {
    assert_ptr_equal(c, &fake);
    *state = fake.busy-- > 0 ? ncclInProgress : fake.state;
    return ncclSuccess;
}

static ncclResult_t fake_finalize(ncclComm_t c) {
    assert_ptr_equal(c, &fake);
    fake.finalized++;
    fake.busy = BUSY_ANSWERS;
    return ncclInProgress;
}

static ncclResult_t fake_destroy(ncclComm_t c) {
    assert_ptr_equal(c, &fake);
    assert_int_equal(fake.finalized, 1);
    fake.destroyed++;
    return ncclSuccess;
}

static ncclResult_t fake_all_reduce(const void *send, void *receive, size_t count, ncclDataType_t type,
                                    ncclRedOp_t op, ncclComm_t c, cudaStream_t stream) {
    assert_ptr_equal(c, &fake);
    assert_ptr_equal(send, receive);
    assert_int_equal(op, ncclSum);
    note("%s %s", "sum", (const void *)stream);
    if (type == ncclFloat32)
        MPI_Allreduce(MPI_IN_PLACE, receive, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    else if (type == ncclFloat64)
        MPI_Allreduce(MPI_IN_PLACE, receive, (int)count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    else /* whole numbers of 16 bits are enough to see which type was asked for */
        for (size_t i = 0; i < count; i++)
            ((uint16_t *)receive)[i] = type == ncclBfloat16 ? 0xBF : type == ncclFloat16 ? 0xF1 : 0;
    fake.busy = 1;
    return ncclInProgress;
}

static const char *fake_text(ncclResult_t result) {
    return result == ncclRemoteError ? "remote process exited" : "another error";
}
static const char *fake_last(ncclComm_t c) {
    (void)c;
    return "socket closed by peer";
}

static const nccl_api api = {.get_unique_id = fake_unique_id,
                             .comm_init_rank_config = fake_init,
                             .comm_get_async_error = fake_async_error,
                             .comm_finalize = fake_finalize,
                             .comm_destroy = fake_destroy,
                             .all_reduce = fake_all_reduce,
                             .get_error_string = fake_text,
                             .get_last_error = fake_last};

static comm *open_nccl(void) {
    char card[32];
    comm *c;
    memset(&fake, 0, sizeof fake);
    snprintf(card, sizeof card, "0000:%02x:00.0", env.rank);
    CHECK(comm_nccl_open(&c, host, dev, card, &api) == STATUS_OK, "%s", error_cause());
    return c;
}

/* ---- tests ------------------------------------------------------------------------------------------------- */

static void check_log(const char *const *expected, int count) {
    assert_int_equal(fake.log_count, count);
    for (int i = 0; i < count; i++) assert_string_equal(fake.log[i], expected[i]);
    fake.log_count = 0;
}

/* Before the last test host stays open: NCCL's comm would close it. */
static void leave_host(comm *c) {
    c->host = NULL;
    comm_close(c);
    assert_int_equal(fake.destroyed, 1);
}

static void test_order(void **state) {
    (void)state;
    static const char *const started[] = {"record compute", "wait comm", "sum comm", "record comm"},
                             *const waited[] = {"wait compute"};
    comm *c = open_nccl();
    assert_string_equal(comm_backend_name(c), "nccl");
    float values[3] = {1, (float)env.rank, -2}, others[2] = {3, 4};
    comm_request first = comm_start_sum(c, values, 3, COMM_F32);
    check_log(started, 4);
    comm_request second = comm_start_sum(c, others, 2, COMM_F32);
    check_log(started, 4);
    comm_wait(c, second);
    check_log(waited, 1);
    comm_wait(c, first);
    check_log(waited, 1);
    assert_true(comm_is_done(c, first));
    assert_true(values[0] == (float)env.size && values[1] == (float)(env.size * (env.size - 1) / 2) &&
                values[2] == -2 * (float)env.size && others[1] == 4 * (float)env.size);
    comm_poll(c);
    leave_host(c);
}

static void test_types(void **state) {
    (void)state;
    comm *c = open_nccl();
    uint16_t half[2] = {0, 0};
    double wide = 0.5;
    comm_wait(c, comm_start_sum(c, &half[0], 1, COMM_BF16));
    comm_wait(c, comm_start_sum(c, &half[1], 1, COMM_F16));
    assert_int_equal(half[0], 0xBF);
    assert_int_equal(half[1], 0xF1);
    comm_allreduce_sum_f64(c, &wide, 1);
    assert_true(wide == 0.5 * env.size);
    fake.log_count = 0;
    leave_host(c);
}

/* More sums than there are events, each waited for in time. */
static void test_many(void **state) {
    (void)state;
    comm *c = open_nccl();
    for (int k = 0; k < 700; k++) {
        float value = (float)k;
        comm_allreduce_sum_f32(c, &value, 1);
        assert_true(value == (float)(k * env.size));
        fake.log_count = 0;
    }
    leave_host(c);
}

static void test_host_part(void **state) {
    (void)state;
    comm *c = open_nccl();
    double number = env.rank;
    int32_t most = env.rank;
    comm_host_sum_f64(c, &number, 1);
    comm_allreduce_max_i32(c, &most, 1);
    comm_barrier(c);
    assert_true(number == env.size * (env.size - 1) / 2.0);
    assert_int_equal(most, env.size - 1);
    assert_int_equal(fake.log_count, 0);
    leave_host(c);
}

static void test_shared_card(void **state) {
    (void)state;
    comm *c;
    error_clear();
    assert_int_equal(comm_nccl_open(&c, host, dev,
                                    env.rank < 2   ? "0000:17:00.0"
                                    : env.rank < 3 ? "a"
                                                   : "b",
                                    &api),
                     STATUS_NO_DEVICE);
    assert_null(c);
    assert_non_null(strstr(error_cause(), "ranks 0 and 1 share GPU 0000:17:00.0 of "));
}

static void test_missing_library(void **state) {
    (void)state;
    comm *c;
    error_clear();
    if (env.rank == 1) error_set(STATUS_NO_DEVICE, "install it", "NCCL: no such file");
    assert_int_equal(comm_nccl_open(&c, host, dev, "x", env.rank == 1 ? NULL : &api), STATUS_NO_DEVICE);
    assert_string_equal(error_cause(), env.rank == 1 ? "NCCL: no such file" : "rank 1 has no NCCL");
}

static void test_loading(void **state) {
    (void)state;
    nccl_api real;
    char text[16];
    assert_string_equal(nccl_api_version_text(text, 22809), "2.28.9");
    if (nccl_api_load(&real) != STATUS_OK) {
        print_message("the library itself is not tried: %s\n", error_cause());
        error_clear();
        return;
    }
    int version = 0;
    assert_int_equal(real.get_version(&version), ncclSuccess);
    assert_true(version >= NCCL_API_OLDEST);
}

/* Sums through host memory, on the same device. */
static void test_staged(void **state) {
    (void)state;
    comm *c;
    float values[5] = {1, 2, 3, 4, 5}, more[2] = {6, (float)env.rank};
    double wide[2] = {0.25, env.rank};
    assert_int_equal(comm_staged_open(&c, host, dev), STATUS_OK);
    for (int round = 1; round <= 2; round++) {
        comm_request first = comm_start_sum(c, values, 5, COMM_F32),
                     second = comm_start_sum(c, more, 2, COMM_F32);
        comm_wait(c, first);
        comm_wait(c, second);
        comm_wait(c, first); /* a second time changes nothing */
        for (int i = 0; i < 5; i++)
            assert_true(values[i] == (float)(i + 1) * (float)(round == 1 ? env.size : env.size * env.size));
    }
    comm_allreduce_sum_f64(c, wide, 2);
    assert_true(wide[0] == 0.25 * env.size && wide[1] == env.size * (env.size - 1) / 2.0);
    double on_host = 1;
    comm_host_sum_f64(c, &on_host, 1);
    assert_true(on_host == env.size);
    c->host = NULL;
    comm_close(c);
}

/* Ends with exit code 76 and the reason. */
static int lose_a_rank(void) {
    comm *c = open_nccl();
    float value = 1;
    comm_wait(c, comm_start_sum(c, &value, 1, COMM_F32));
    comm_barrier(c);
    if (env.rank != 0) {
        comm_barrier(c); /* never comes */
        return 1;
    }
    fake.busy = 0;
    fake.state = ncclRemoteError;
    comm_poll(c);
    return 1;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order),
                                       cmocka_unit_test(test_types),
                                       cmocka_unit_test(test_many),
                                       cmocka_unit_test(test_host_part),
                                       cmocka_unit_test(test_shared_card),
                                       cmocka_unit_test(test_staged),
                                       cmocka_unit_test(test_missing_library),
                                       cmocka_unit_test(test_loading)};
    CHECK(rank_env_read(&env) == STATUS_OK && env.size > 1, "run it under mpirun with several ranks");
    open_device();
    CHECK(comm_open(&host, &env, dev) == STATUS_OK, "%s", error_cause());
    if (argc == 2 && strcmp(argv[1], "lost") == 0) return lose_a_rank();
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(host);
    device_close(dev);
    return failures > 0;
}
