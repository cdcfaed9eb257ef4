#include "record/event_log.h"

#include "base/file_util.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* The definition, bit by bit. */
static uint32_t plain_masked_crc32c(const unsigned char *bytes, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

static uint64_t little_endian(const unsigned char *bytes, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

/* Checks the frame at *at and returns the record's bytes. */
static const unsigned char *next_record(const unsigned char *file, size_t file_size, size_t *at,
                                        size_t *size) {
    assert_true(*at + 12 <= file_size);
    *size = little_endian(file + *at, 8);
    assert_int_equal(little_endian(file + *at + 8, 4), plain_masked_crc32c(file + *at, 8));
    assert_true(*at + 16 + *size <= file_size);
    const unsigned char *record = file + *at + 12;
    assert_int_equal(little_endian(record + *size, 4), plain_masked_crc32c(record, *size));
    *at += 16 + *size;
    return record;
}

static double double_at(const unsigned char *bytes) {
    uint64_t bits = little_endian(bytes, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void file_reads_as_tensorboard_reads_it(void **state) {
    (void)state;
    char folder[] = "/tmp/test_event_log.XXXXXX";
    assert_non_null(mkdtemp(folder));
    event_log *log;
    assert_int_equal(event_log_open(&log, folder), STATUS_OK);
    char path[512];
    snprintf(path, sizeof path, "%s", event_log_path(log));
    assert_non_null(strstr(path, "/events.out.tfevents."));
    const event_scalar scalars[] = {{"lr", 0.5f}, {"loss", -2.0f}};
    assert_int_equal(event_log_write(log, 300, scalars, 2), STATUS_OK);
    event_scalar many[40];
    for (int i = 0; i < 40; i++)
        many[i] = (event_scalar){"a_tag_that_makes_the_summary_longer_than_127_bytes", (float)i};
    assert_int_equal(event_log_write(log, ((int64_t)1 << 40) + 5, many, 40), STATUS_OK);
    event_log_close(log);

    char *text;
    size_t file_size, at = 0, size;
    assert_int_equal(read_file(&text, &file_size, path, 1 << 20), STATUS_OK);
    const unsigned char *file = (const unsigned char *)text;
    const unsigned char *record = next_record(file, file_size, &at, &size);
    assert_int_equal(size, 9 + 15);
    assert_int_equal(record[0], 1 << 3 | 1); /* wall_time */
    assert_true(double_at(record + 1) > 1.6e9 && double_at(record + 1) <= (double)time(NULL) + 1);
    assert_memory_equal(record + 9,
                        "\x1a\x0d"
                        "brain.Event:2",
                        15);

    record = next_record(file, file_size, &at, &size);
    static const unsigned char expected[] = {
        0x10, 0xAC, 0x02,                                                  /* step 300 */
        0x2A, 24,                                                          /* summary */
        0x0A, 9,    0x0A, 2, 'l', 'r', 0x15, 0,   0,    0, 0x3F,           /* lr 0.5 */
        0x0A, 11,   0x0A, 4, 'l', 'o', 's',  's', 0x15, 0, 0,    0, 0xC0}; /* loss -2 */
    assert_int_equal(size, 9 + sizeof expected);
    assert_memory_equal(record + 9, expected, sizeof expected);

    record = next_record(file, file_size, &at, &size);
    static const unsigned char step[] = {0x10, 0x85, 0x80, 0x80, 0x80, 0x80, 0x20};
    assert_memory_equal(record + 9, step, sizeof step);
    assert_int_equal(record[16], 0x2A);
    size_t length = (size_t)(record[17] & 0x7F) | (size_t)record[18] << 7;
    assert_int_equal(length, size - 19);
    assert_int_equal(at, file_size);
    free(text);
    unlink(path);
    rmdir(folder);
}

/* A disk that fills up in the middle of a record: the file still ends with a whole one. */
static void failed_write_leaves_whole_records(void **state) {
    (void)state;
    char folder[] = "/tmp/test_event_log.XXXXXX", path[512];
    assert_non_null(mkdtemp(folder));
    event_log *log;
    assert_int_equal(event_log_open(&log, folder), STATUS_OK);
    snprintf(path, sizeof path, "%s", event_log_path(log));
    struct rlimit unlimited, tight;
    getrlimit(RLIMIT_FSIZE, &unlimited);
    tight = unlimited;
    tight.rlim_cur = 50;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    const event_scalar scalar = {"lr", 1};
    status result = event_log_write(log, 1, &scalar, 1);
    setrlimit(RLIMIT_FSIZE, &unlimited);
    assert_int_equal(result, STATUS_IO);
    assert_int_equal(event_log_write(log, 2, &scalar, 1), STATUS_OK);
    event_log_close(log);
    char *text;
    size_t file_size, at = 0, size;
    assert_int_equal(read_file(&text, &file_size, path, 1 << 20), STATUS_OK);
    next_record((const unsigned char *)text, file_size, &at, &size);
    const unsigned char *record = next_record((const unsigned char *)text, file_size, &at, &size);
    assert_int_equal(record[10], 2); /* the step */
    assert_int_equal(at, file_size);
    free(text);
    unlink(path);
    rmdir(folder);
}

static void unusable_folder_is_reported(void **state) {
    (void)state;
    event_log *log;
    assert_int_equal(event_log_open(&log, "/proc/nowhere"), STATUS_CANT_CREATE);
    assert_non_null(strstr(error_cause(), "/proc/nowhere/events.out.tfevents."));
    assert_null(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_reads_as_tensorboard_reads_it),
        cmocka_unit_test(failed_write_leaves_whole_records),
        cmocka_unit_test(unusable_folder_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
