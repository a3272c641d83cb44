/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer whose connections fail: bytes come one by one, late, or not at all, and sockets break in the middle of a message, at either end. Whatever happens, calls end,
 * a page that was acknowledged is found once the faults are over, and no byte is wrong. Owner and peer are in one process, each with an env whose share operations are drawn
 * from a seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "env/env_posix.h"
#include "peer/message.h"
#include "peer/role.h"
#include "shared_store.h"
#include "varve.h"

#define TIMEOUT_MS 50
#define PATIENT_MS 500 /* where none of the others may time out */
#define LATE_MS    750
#define ROUNDS     6
#define CALLS      150
#define CHAINS     24
#define PAGES      6
#define PAGE_SIZE  4096

static const struct env_share_ops *const real = &posix_share_ops;
static _Atomic uint64_t rng_state;
static _Atomic unsigned fault_per_mille; /* 0: none */
static _Atomic unsigned lost_type;       /* enum message_type: such messages are lost; 0: none */
static _Atomic unsigned late_type;       /* answers of this type come late, after LATE_MS */

static uint64_t
draw(uint64_t limit)
{
    uint64_t v = atomic_fetch_add(&rng_state, 0x9e3779b97f4a7c15u) + 0x9e3779b97f4a7c15u;

    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
    return (v ^ (v >> 31)) % limit;
}

static bool
faulty(void)
{
    return draw(1000) < atomic_load(&fault_per_mille);
}

static bool
is_of_type(const struct iovec *iov, unsigned type, struct message_header *header)
{
    return type != 0 && iov->iov_len >= MESSAGE_HEADER_BYTES &&
           message_header_decode(iov->iov_base, header) == MESSAGE_GOOD && header->type == type;
}

static int64_t
faulty_send(struct env_socket *socket, const struct iovec *iov, uint32_t iov_count, const struct env_file *file,
            uint64_t timeout_ms)
{
    struct message_header header;
    struct iovec part = iov[0];

    if (is_of_type(iov, atomic_load(&lost_type), &header))
        return -EAGAIN;
    if (is_of_type(iov, atomic_load(&late_type), &header) && header.length == 0)
        real->sleep_ms(socket->env, LATE_MS);
    if (!faulty())
        return real->send(socket, iov, iov_count, file, timeout_ms);
    switch (draw(4)) {
    case 0: /* it breaks */
        real->shutdown(socket);
        return -EPIPE;
    case 1: /* lost: the other end waits for it */
        return -EAGAIN;
    case 2:
        real->sleep_ms(socket->env, draw(20));
        return real->send(socket, iov, iov_count, file, timeout_ms);
    default: /* a part */
        part.iov_len = 1 + (size_t)draw(part.iov_len);
        return real->send(socket, &part, 1, file, timeout_ms);
    }
}

static int64_t
faulty_receive(struct env_socket *socket, void *buf, size_t size, uint64_t timeout_ms, struct env_file **file)
{
    if (!faulty())
        return real->receive(socket, buf, size, timeout_ms, file);
    switch (draw(4)) {
    case 0:
        real->shutdown(socket);
        return -ECONNRESET;
    case 1:
        return -EAGAIN;
    case 2:
        real->sleep_ms(socket->env, draw(20));
        return real->receive(socket, buf, size, timeout_ms, file);
    default:
        return real->receive(socket, buf, 1 + (size_t)draw(size), timeout_ms, file);
    }
}

static int
faulty_connect(struct env *env, const char *name, struct env_socket **out)
{
    return faulty() ? -ECONNREFUSED : real->connect(env, name, out);
}

static varve_store *
open_faulty(const char *path, uint64_t timeout_ms)
{
    static struct env_share_ops ops;

    ops = *real;
    ops.send = faulty_send;
    ops.receive = faulty_receive;
    ops.connect = faulty_connect;
    return shared_store_open(
        path, &(struct shared_store_settings){
                  .share = true, .capacity = UINT64_C(128) << 20, .timeout_ms = timeout_ms, .ops = &ops});
}

struct pages {
    uint8_t memory[PAGES * PAGE_SIZE];
    struct iovec iov[PAGES];
    varve_page pages[PAGES];
    varve_id ids[PAGES];
};

static void
prepare(struct pages *batch, uint8_t chain, bool put)
{
    for (size_t i = 0; i < PAGES; i++) {
        uint8_t *bytes = batch->memory + i * PAGE_SIZE;

        memset(bytes, put ? (int)(chain * 7 + i + 1) : 0, PAGE_SIZE);
        batch->ids[i] = (varve_id){{chain, (uint8_t)i, 9}};
        batch->iov[i] = (struct iovec){bytes, PAGE_SIZE - i}; /* one is a whole block */
        batch->pages[i] = (varve_page){.id = batch->ids[i], .iov = &batch->iov[i], .iov_count = 1};
    }
}

/* Pages that came, all of them right. */
static size_t
get(varve_store *store, varve_namespace *ns, struct pages *batch, uint8_t chain)
{
    size_t found = 0;

    prepare(batch, chain, false);
    assert_int_equal(varve_get_batch(store, ns, batch->pages, PAGES, NULL), VARVE_OK);
    for (size_t i = 0; i < PAGES; i++) {
        if (batch->pages[i].status != VARVE_OK)
            continue;
        for (size_t at = 0; at < PAGE_SIZE - i; at++)
            assert_int_equal(batch->memory[i * PAGE_SIZE + at], (uint8_t)(chain * 7 + i + 1));
        found++;
    }
    return found;
}

static bool
put(varve_store *store, varve_namespace *ns, struct pages *batch, uint8_t chain)
{
    bool stored = true;

    prepare(batch, chain, true);
    assert_int_equal(varve_put_batch(store, ns, NULL, batch->pages, PAGES, 0, NULL), VARVE_OK);
    for (size_t i = 0; i < PAGES; i++)
        stored = stored && batch->pages[i].status == VARVE_OK;
    return stored;
}

/* Some calls of the peer; stored[chain] is what is certain. */
static void
run_calls(varve_store *peer, varve_namespace *ns, bool *stored)
{
    static struct pages batch __attribute__((aligned(4096)));

    for (int call = 0; call < CALLS; call++) {
        uint8_t chain = (uint8_t)draw(CHAINS);
        bool answered = true;

        switch (draw(5)) {
        case 0:
            answered = put(peer, ns, &batch, chain);
            stored[chain] = stored[chain] || answered;
            break;
        case 1:
            prepare(&batch, chain, false);
            (void)varve_probe(peer, ns, batch.ids, PAGES, NULL, NULL);
            break;
        case 2:
            (void)varve_touch(peer, ns, batch.ids, PAGES, NULL);
            (void)varve_sync(peer, NULL);
            break;
        default:
            answered = get(peer, ns, &batch, chain) == PAGES || !stored[chain];
        }
        if (!answered) /* the owner is taken for silent: it is asked again after as long */
            (void)usleep((TIMEOUT_MS + 5) * 1000);
    }
}

static void
make_directory(char path[256])
{
    const char *base = getenv("VARVE_TEST_DIR");

    (void)snprintf(path, 256, "%s/peer_faults.XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(path));
}

/* Stored, but nobody says that it is durable: that is not what was asked for. */
static void
test_sync_unanswered(void **state)
{
    static struct pages batch __attribute__((aligned(4096)));
    varve_store *owner, *peer;
    varve_namespace *ns;
    char path[256];

    (void)state;
    make_directory(path);
    owner = open_faulty(path, TIMEOUT_MS);
    peer = open_faulty(path, TIMEOUT_MS);
    assert_int_equal(varve_namespace_open(peer, "test", NULL, &ns, NULL), VARVE_OK);
    prepare(&batch, 1, true);
    atomic_store(&lost_type, MESSAGE_SYNC);
    assert_int_equal(varve_put_batch(peer, ns, NULL, batch.pages, PAGES, VARVE_PUT_SYNC, NULL), VARVE_OK);
    atomic_store(&lost_type, 0);
    for (size_t i = 0; i < PAGES; i++)
        assert_int_equal(batch.pages[i].status, VARVE_E_TIMEOUT);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    assert_int_equal(directory_delete(path), 0);
}

/* Gauges that nobody tells are 0, not what was there before. */
static void
test_stats_unanswered(void **state)
{
    uint64_t values[256];
    varve_store *owner, *peer;
    const varve_stat_desc *desc;
    char path[256];

    (void)state;
    make_directory(path);
    owner = open_faulty(path, TIMEOUT_MS);
    peer = open_faulty(path, TIMEOUT_MS);
    atomic_store(&lost_type, MESSAGE_STATS);
    memset(values, 0xa5, sizeof(values));
    assert_true(varve_stats_get(peer, values, 256) < 256);
    atomic_store(&lost_type, 0);
    for (size_t i = 0; (desc = varve_stat_describe(i)) != NULL; i++)
        assert_int_equal(desc->gauge ? values[i] : values[i] / 1000, 0);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    assert_int_equal(directory_delete(path), 0);
}

/* Change a byte of a page. */
static void
damage(const char *directory, varve_store *store)
{
    varve_item item = VARVE_ITEM_INIT;
    varve_iter *iter;
    char path[300];
    uint8_t byte;
    int fd;

    assert_int_equal(varve_iter_open(store, NULL, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    assert_int_equal(varve_iter_next(iter, &item, NULL), VARVE_OK);
    varve_iter_close(iter);
    (void)snprintf(path, sizeof(path), "%s/%016llx.seg", directory, (unsigned long long)item.segment);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)item.offset + 5), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)item.offset + 5), 1);
    assert_int_equal(fsync(fd), 0);
    (void)close(fd);
}

/* The owner may read many pages to see which are damaged: it is not taken for silent. */
static void
test_damage_takes_time(void **state)
{
    static struct pages batch __attribute__((aligned(4096)));
    varve_store *owner, *peer;
    varve_namespace *ns;
    char path[256];

    (void)state;
    make_directory(path);
    owner = open_faulty(path, PATIENT_MS);
    peer = open_faulty(path, PATIENT_MS);
    assert_int_equal(varve_namespace_open(peer, "test", NULL, &ns, NULL), VARVE_OK);
    assert_true(put(peer, ns, &batch, 1));
    damage(path, owner);
    atomic_store(&late_type, MESSAGE_DAMAGED);
    assert_int_equal(get(peer, ns, &batch, 1), PAGES - 1);
    atomic_store(&late_type, 0);
    assert_int_equal(shared_store_stat(peer, "peer_timeouts"), 0);
    assert_int_equal(get(peer, ns, &batch, 1), PAGES - 1);
    assert_true(put(peer, ns, &batch, 1));
    assert_int_equal(get(peer, ns, &batch, 1), PAGES);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    assert_int_equal(directory_delete(path), 0);
}

static void
test_faults(void **state)
{
    const char *seed = getenv("VARVE_TEST_SEED");
    static struct pages batch __attribute__((aligned(4096)));
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_store *owner, *peer;
    varve_namespace *ns;
    bool stored[CHAINS] = {false};
    char path[256];

    (void)state;
    atomic_store(&rng_state, seed == NULL ? 1 : strtoull(seed, NULL, 10));
    print_message("seed %s (VARVE_TEST_SEED sets it)\n", seed == NULL ? "1" : seed);
    make_directory(path);
    owner = open_faulty(path, TIMEOUT_MS);
    peer = open_faulty(path, TIMEOUT_MS);
    assert_int_equal(varve_namespace_open(peer, "test", NULL, &ns, NULL), VARVE_OK);
    for (unsigned round = 0; round < ROUNDS; round++) {
        atomic_store(&fault_per_mille, 5u << round);
        run_calls(peer, ns, stored);
        atomic_store(&fault_per_mille, 0);
        (void)usleep(2 * TIMEOUT_MS * 1000);
        for (uint8_t chain = 0; chain < CHAINS; chain++) {
            if (stored[chain])
                assert_int_equal(get(peer, ns, &batch, chain), PAGES);
        }
    }
    print_message("%d timeouts, %d reconnects, %d puts abandoned\n", (int)shared_store_stat(peer, "peer_timeouts"),
                  (int)shared_store_stat(peer, "peer_reconnects"), (int)shared_store_stat(owner, "peer_abandoned"));
    assert_true(shared_store_stat(peer, "peer_timeouts") > 0 && shared_store_stat(peer, "peer_reconnects") > 0);
    assert_int_equal(varve_check(owner, VARVE_CHECK_DEEP, NULL, NULL, NULL, &report, NULL), VARVE_OK);
    assert_int_equal(report.problems, 0);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    assert_int_equal(directory_delete(path), 0);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sync_unanswered),
        cmocka_unit_test(test_stats_unanswered),
        cmocka_unit_test(test_damage_takes_time),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
