/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers: every task runs once, by a helper or not at all, and is handed back to the group it belongs to. Buffers: kept, and not too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/buffers.h"
#include "codec/crew.h"
#include "plain_env.h"

#define TASKS   200
#define CALLERS 4
#define ROUNDS  20

struct number {
    struct crew_task task; /* first */
    atomic_uint runs;
    uint32_t handed_back;
};

static void
run_number(struct crew_task *task)
{
    atomic_fetch_add_explicit(&((struct number *)task)->runs, 1, memory_order_relaxed);
}

/* Offer all; run here what no helper takes. Each must have run once, and all that were taken come back, once. */
static void
run_all(struct crew *crew)
{
    struct number numbers[TASKS] = {0};
    struct crew_group group = {0};
    struct crew_task *task;
    uint32_t taken = 0, back = 0;

    for (size_t i = 0; i < TASKS; i++) {
        numbers[i].task.run = run_number;
        if (crew_offer(crew, &group, &numbers[i].task))
            taken++;
        else
            run_number(&numbers[i].task);
        if (i % 3 == 0 && (task = crew_collect(crew, &group)) != NULL) {
            ((struct number *)task)->handed_back++;
            back++;
        }
    }
    while ((task = crew_wait(crew, &group)) != NULL) {
        ((struct number *)task)->handed_back++;
        back++;
    }
    assert_int_equal(taken, back);
    assert_true(crew_collect(crew, &group) == NULL && crew_wait(crew, &group) == NULL);
    for (size_t i = 0; i < TASKS; i++) {
        assert_int_equal(atomic_load(&numbers[i].runs), 1);
        assert_true(numbers[i].handed_back <= 1);
    }
}

static void *
caller_main(void *arg)
{
    for (int round = 0; round < ROUNDS; round++)
        run_all(arg);
    return NULL;
}

static void
test_callers_share_helpers(void **state)
{
    static const uint32_t helper_counts[] = {0, 1, 3, CREW_HELPERS_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(helper_counts) / sizeof(helper_counts[0]); i++) {
        pthread_t callers[CALLERS];
        struct crew crew;

        crew_init(&crew, helper_counts[i]);
        for (size_t k = 0; k < CALLERS; k++)
            assert_int_equal(pthread_create(&callers[k], NULL, caller_main, &crew), 0);
        for (size_t k = 0; k < CALLERS; k++)
            assert_int_equal(pthread_join(callers[k], NULL), 0);
        assert_true(crew.helper_count <= helper_counts[i]);
        crew_deinit(&crew);
    }
}

static struct mutex gate;

static void
wait_at_gate(struct crew_task *task)
{
    mutex_lock(&gate);
    mutex_unlock(&gate);
    run_number(task);
}

/* No more tasks are taken than there are helpers, and no helper is started that is not needed. */
static void
test_no_queue_behind_busy_helpers(void **state)
{
    struct number numbers[3] = {0};
    struct crew_group group = {0};
    struct crew crew;

    (void)state;
    crew_init(&crew, 2);
    mutex_init(&gate);
    mutex_lock(&gate);
    for (size_t i = 0; i < 3; i++)
        numbers[i].task.run = wait_at_gate;
    assert_int_equal(crew.helper_count, 0);
    assert_true(crew_offer(&crew, &group, &numbers[0].task));
    assert_int_equal(crew.helper_count, 1);
    assert_true(crew_offer(&crew, &group, &numbers[1].task));
    assert_int_equal(crew.helper_count, 2);
    assert_false(crew_offer(&crew, &group, &numbers[2].task));
    assert_null(crew_collect(&crew, &group));
    mutex_unlock(&gate);
    assert_non_null(crew_wait(&crew, &group));
    assert_non_null(crew_wait(&crew, &group));
    assert_null(crew_wait(&crew, &group));
    assert_true(crew_offer(&crew, &group, &numbers[2].task));
    assert_ptr_equal(crew_wait(&crew, &group), &numbers[2].task);
    crew_deinit(&crew);
    mutex_deinit(&gate);
}

static void
test_buffers(void **state)
{
    struct buffers buffers;
    struct buffer all[BUFFERS_IDLE_MAX + 1], one, other;
    struct plain_env *env = plain_env_create(NULL);

    (void)state;
    buffers_init(&buffers, &env->env, 4096);
    one = buffers_acquire(&buffers, 100000);
    assert_non_null(one.memory);
    assert_int_equal((uintptr_t)one.memory % 4096, 0);
    memset(one.memory, 1, 100000);
    buffers_release(&buffers, one);
    other = buffers_acquire(&buffers, 100001); /* too small, */
    assert_ptr_not_equal(other.memory, one.memory);
    buffers_release(&buffers, other);
    other = buffers_acquire(&buffers, 70000); /* large enough: the last one, */
    assert_true(other.bytes == 100001 && buffers.idle_count == 1);
    buffers_release(&buffers, other);
    one = buffers_acquire(&buffers, BUFFERS_KEPT_MIN - 1); /* not kept, */
    buffers_release(&buffers, one);
    assert_int_equal(buffers.idle_count, 2);
    one = buffers_acquire(&buffers, BUFFERS_IDLE_BYTES_MAX); /* more than are kept */
    buffers_release(&buffers, one);
    assert_int_equal(buffers.idle_bytes, 200001);
    for (size_t i = 0; i <= BUFFERS_IDLE_MAX; i++)
        all[i] = buffers_acquire(&buffers, BUFFERS_KEPT_MIN);
    assert_int_equal(buffers.idle_bytes, 0);
    for (size_t i = 0; i <= BUFFERS_IDLE_MAX; i++)
        buffers_release(&buffers, all[i]);
    assert_int_equal(buffers.idle_count, BUFFERS_IDLE_MAX);
    atomic_store(&env->alloc_fails_in, 1);
    assert_null(buffers_acquire(&buffers, (uint64_t)1 << 20).memory);
    buffers_deinit(&buffers);
    plain_env_destroy(env);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_callers_share_helpers),
        cmocka_unit_test(test_no_queue_behind_busy_helpers),
        cmocka_unit_test(test_buffers),
    };

    return cmocka_run_group_tests_name("crew", tests, NULL, NULL);
}
