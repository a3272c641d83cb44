/* SPDX-License-Identifier: Apache-2.0 */
/* trace_read.c: good and bad lines, messages that name file and line, and damaged lines that must not crash it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "random.h"
#include "trace_read.h"

static const char good_line[] =
    "{\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52, \"hash_ids\": [46, 47, 2353]}";

static void
test_good_lines(void **state)
{
    struct trace_request request = {0};
    varve_error err = {0};
    char line[256];

    (void)state;
    assert_int_equal(trace_parse(good_line, strlen(good_line), &request, &err), VARVE_OK);
    assert_int_equal(request.timestamp_ms, 27482);
    assert_int_equal(request.input_length, 6955);
    assert_int_equal(request.output_length, 52);
    assert_int_equal(request.block_size, 512);
    assert_int_equal(request.stage, 0);
    assert_int_equal(request.hash_count, 3);
    assert_int_equal(request.hash_ids[2], 2353);
    (void)snprintf(line, sizeof(line), "%s",
                   "{\"stage\":3,\"hash_ids\":[18446744073709551615,0],\"other\":{\"a\":[1]},\"block_size\":64,"
                   "\"timestamp\":1.75}\n");
    assert_int_equal(trace_parse(line, strlen(line), &request, &err), VARVE_OK);
    assert_int_equal(request.timestamp_ms, 1);
    assert_int_equal(request.input_length, 128);
    assert_int_equal(request.block_size, 64);
    assert_int_equal(request.stage, 3);
    assert_int_equal(request.hash_count, 2);
    assert_true(request.hash_ids[0] == UINT64_MAX);
    assert_int_equal(trace_parse("{\"hash_ids\":[]}", 15, &request, &err), VARVE_OK);
    assert_int_equal(request.hash_count, 0);
    trace_request_deinit(&request);
}

static void
test_bad_lines(void **state)
{
    static const struct {
        const char *line;
        const char *message; /* part of it */
    } cases[] = {
        {"", "not JSON"},
        {"[1]", "object"},
        {"{}", "\"hash_ids\" is missing"},
        {"{\"hash_ids\":[1,2]", "not JSON"},
        {"{\"hash_ids\":[1,2]} {}", "not JSON"},
        {"{\"hash_ids\":7}", "must be an array"},
        {"{\"hash_ids\":null}", "must be an array"},
        {"{\"hash_ids\":[-1]}", "integers"},
        {"{\"hash_ids\":[1.5]}", "integers"},
        {"{\"hash_ids\":[\"1\"]}", "integers"},
        {"{\"hash_ids\":[[1]]}", "integers"},
        {"{\"hash_ids\":[18446744073709551616]}", "integers"},
        {"{\"hash_ids\":[1],\"hash_ids\":[2]}", "\"hash_ids\" occurs twice"},
        {"{\"hash_ids\":[1],\"timestamp\":\"now\"}", "\"timestamp\" must be a number"},
        {"{\"hash_ids\":[1],\"timestamp\":-5}", "\"timestamp\" must be a number"},
        {"{\"hash_ids\":[1],\"input_length\":1e300}", "\"input_length\" must be a number"},
        {"{\"hash_ids\":[1],\"block_size\":0}", "\"block_size\" must be at least 1"},
    };
    struct trace_request request = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        varve_error err = {0};

        assert_int_equal(trace_parse(cases[i].line, strlen(cases[i].line), &request, &err), VARVE_E_ARG);
        if (strstr(err.message, cases[i].message) == NULL)
            fail_msg("%s: '%s' does not say '%s'", cases[i].line, err.message, cases[i].message);
    }
    trace_request_deinit(&request);
}

static void
test_file(void **state)
{
    char path[] = "/tmp/varve_trace_read_XXXXXX";
    struct trace_request request = {0};
    struct trace_reader *reader;
    varve_error err = {0};
    uint64_t done;
    uint64_t total;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "%s\n\n  \r\n%s\n{\"hash_ids\":[1,}\n", good_line, good_line) > 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(trace_reader_open(path, &reader, &err), VARVE_OK);
    assert_int_equal(trace_reader_next(reader, &request, &err), VARVE_OK);
    assert_int_equal(trace_reader_next(reader, &request, &err), VARVE_OK);
    assert_int_equal(request.hash_count, 3);
    assert_int_equal(trace_reader_next(reader, &request, &err), VARVE_E_ARG);
    assert_non_null(strstr(err.message, strrchr(path, '/') + 1));
    assert_non_null(strstr(err.message, ":5: "));
    assert_int_equal(trace_reader_next(reader, &request, &err), VARVE_MISS);
    trace_reader_position(reader, &done, &total);
    assert_int_equal(done, total);
    assert_true(total > 2 * strlen(good_line));
    trace_reader_close(reader);
    trace_request_deinit(&request);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(trace_reader_open(path, &reader, &err), VARVE_E_IO);
    assert_non_null(strstr(err.message, path));
}

static void
test_damaged_lines(void **state)
{
    struct random random = random_make(13);
    struct trace_request request = {0};
    int good = 0;

    (void)state;
    print_message("seed 13\n");
    for (int round = 0; round < 100000; round++) {
        size_t size = sizeof(good_line) - 1;
        char *line;
        varve_error err = {0};
        int rc;

        if (random_below(&random, 4) == 0)
            size = (size_t)random_below(&random, size);
        line = malloc(size + (size == 0)); /* exactly: a sanitizer sees a read past the end */
        assert_non_null(line);
        memcpy(line, good_line, size);
        for (uint64_t changes = random_below(&random, 3); changes > 0 && size > 0; changes--)
            line[random_below(&random, size)] = (char)random_next(&random);
        rc = trace_parse(line, size, &request, &err);
        assert_true(rc == VARVE_OK || (rc == VARVE_E_ARG && err.message[0] != '\0'));
        good += rc == VARVE_OK;
        free(line);
    }
    assert_true(good > 10000 && good < 90000);
    trace_request_deinit(&request);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_lines),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_damaged_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
