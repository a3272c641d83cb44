/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between one owner and the next: what must not be lost, or written over, whichever of the processes notices first. Owners and peers are in one process, on a real
 * directory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "env/env_posix.h"
#include "format/format.h"
#include "peer/message.h"
#include "peer/peer.h"
#include "peer/role.h"
#include "shared_store.h"
#include "varve.h"

#define PATH_BYTES 512
#define PAGES      16
#define PAGE_SIZE  65536
#define FILES_MAX  64

#define TIMEOUT_MS 5000
#define QUOTA      (UINT64_C(16) << 20)

static char path[PATH_BYTES];
static const struct env_share_ops *const real = &posix_share_ops;
static struct env_share_ops hooked; /* what a store is opened with instead */

static int
set_up(void **state)
{
    const char *base = getenv("VARVE_TEST_DIR");

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/takeover.XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(path));
    hooked = *real;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    assert_int_equal(directory_delete(path), 0);
    return 0;
}

/* With other share operations than the real ones (NULL: with these), and for so long a patience. */
static varve_store *
open_with(bool share, const struct env_share_ops *ops, uint64_t timeout_ms)
{
    return shared_store_open(path,
                             &(struct shared_store_settings){
                                 .share = share, .capacity = UINT64_C(24) << 20, .timeout_ms = timeout_ms, .ops = ops});
}

static varve_store *
open_store(bool share)
{
    return open_with(share, NULL, TIMEOUT_MS);
}

static varve_namespace *
namespace_get(varve_store *store, const char *name)
{
    varve_namespace *ns;

    assert_int_equal(varve_namespace_open(store, name, NULL, &ns, NULL), VARVE_OK);
    return ns;
}

/* Put a chain: pages that are stored. */
static size_t
put(varve_store *store, varve_namespace *ns, uint8_t chain)
{
    static uint8_t memory[PAGES * PAGE_SIZE] __attribute__((aligned(4096)));
    struct iovec iov[PAGES];
    varve_page pages[PAGES];
    size_t stored = 0;

    memset(memory, chain, sizeof(memory));
    for (size_t i = 0; i < PAGES; i++) {
        iov[i] = (struct iovec){memory + i * PAGE_SIZE, PAGE_SIZE};
        pages[i] = (varve_page){.id = {{chain, (uint8_t)i, 1}}, .iov = &iov[i], .iov_count = 1};
    }
    assert_int_equal(varve_put_batch(store, ns, NULL, pages, PAGES, 0, NULL), VARVE_OK);
    for (size_t i = 0; i < PAGES; i++)
        stored += pages[i].status == VARVE_OK;
    return stored;
}

/* Segments as a peer has them: open, under the names they had then. */
struct opened {
    int fds[FILES_MAX];
    char names[FILES_MAX][PATH_BYTES];
    size_t count;
};

static void
name_of(int fd, char name[PATH_BYTES])
{
    char link[64];
    ssize_t size;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    size = readlink(link, name, PATH_BYTES - 1);
    assert_true(size > 0);
    name[size] = '\0';
}

static void
open_segments(struct opened *opened)
{
    DIR *directory = opendir(path);

    assert_non_null(directory);
    opened->count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int fd;

        if (strstr(entry->d_name, ".seg") == NULL)
            continue;
        assert_true(opened->count < FILES_MAX);
        fd = openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        name_of(fd, opened->names[opened->count]);
        opened->fds[opened->count++] = fd;
    }
    (void)closedir(directory);
}

/* How many were dropped: these are empty, and the others are what they were. */
static size_t
close_segments(struct opened *opened)
{
    size_t dropped = 0;

    for (size_t i = 0; i < opened->count; i++) {
        char name[PATH_BYTES];
        struct stat about;

        assert_int_equal(fstat(opened->fds[i], &about), 0);
        name_of(opened->fds[i], name);
        if (about.st_nlink == 0)
            assert_int_equal(about.st_size, 0);
        else
            assert_string_equal(name, opened->names[i]);
        dropped += about.st_nlink == 0;
        (void)close(opened->fds[i]);
    }
    return dropped;
}

/* A peer that is stopped may still write to files of the owner before. An owner that shares with nobody does not write over them either. */
static void
test_alone_beside_writer(void **state)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_store *owner = open_store(true), *peer = open_store(true);
    char name[PATH_BYTES + 16];
    struct opened opened;
    int writers;

    (void)state;
    for (uint8_t chain = 1; chain < 20; chain++)
        assert_int_equal(put(peer, namespace_get(peer, "test"), chain), PAGES);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    open_segments(&opened);
    (void)snprintf(name, sizeof(name), "%s/%s", path, FORMAT_WRITERS_NAME);
    writers = open(name, O_RDWR | O_CLOEXEC);
    assert_true(writers >= 0);
    assert_int_equal(flock(writers, LOCK_SH), 0);
    owner = open_store(false);
    for (uint8_t chain = 100; chain < 150; chain++)
        (void)put(owner, namespace_get(owner, "test"), chain);
    assert_int_equal(varve_check(owner, VARVE_CHECK_DEEP, NULL, NULL, NULL, &report, NULL), VARVE_OK);
    assert_int_equal(report.problems, 0);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    assert_true(close_segments(&opened) > 10);
    (void)close(writers);
}

static int64_t
probe(varve_store *store)
{
    const varve_id id = {{1, 0, 1}};

    return varve_probe(store, namespace_get(store, "test"), &id, 1, NULL, NULL);
}

static int
limit(varve_store *store)
{
    varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;

    limits.quota_bytes = QUOTA;
    return varve_namespace_limits_set(store, namespace_get(store, "test"), &limits, NULL);
}

/* The owner goes, and that one takes its place. */
static void
succeed(varve_store *owner, varve_store *next)
{
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    assert_true(probe(next) >= 0);
    assert_true(role_is_owner(next));
}

static uint64_t
quota_at(varve_store *owner)
{
    return namespace_get(owner, "test")->limits.quota_bytes;
}

/* A peer without a connection finds another owner by its next call, and sets its limits there before that. */
static void
test_limits_without_connection(void **state)
{
    varve_store *owner = open_store(true), *next = open_store(true), *peer = open_store(true);
    varve_iter *iter;

    (void)state;
    assert_int_equal(limit(peer), VARVE_OK);
    assert_int_equal(varve_iter_open(peer, namespace_get(peer, "test"), VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    varve_iter_close(iter); /* with the only connection */
    succeed(owner, next);
    assert_int_equal(quota_at(next), 0);
    assert_int_equal(probe(peer), 0);
    assert_int_equal(quota_at(next), QUOTA);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(next, NULL), VARVE_OK);
}

static bool
is_of_type(const void *bytes, size_t size, enum message_type type)
{
    struct message_header header;

    return size >= MESSAGE_HEADER_BYTES && message_header_decode(bytes, &header) == MESSAGE_GOOD && header.type == type;
}

static bool limits_lost;

static int64_t
losing_send(struct env_socket *socket, const struct iovec *iov, uint32_t iov_count, const struct env_file *file,
            uint64_t timeout_ms)
{
    return limits_lost && is_of_type(iov[0].iov_base, iov[0].iov_len, MESSAGE_LIMITS)
               ? -EAGAIN
               : real->send(socket, iov, iov_count, file, timeout_ms);
}

/* An owner that was not told the limits is not used: they are tried again. */
static void
test_limits_unanswered(void **state)
{
    varve_store *owner = open_store(true), *next = open_store(true), *peer;

    (void)state;
    hooked.send = losing_send;
    peer = open_with(true, &hooked, 20);
    assert_int_equal(limit(peer), VARVE_OK);
    succeed(owner, next);
    limits_lost = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(varve_sync(peer, NULL), VARVE_E_TIMEOUT);
    limits_lost = false;
    while (varve_sync(peer, NULL) != VARVE_OK)
        real->sleep_ms(peer->env, 1);
    assert_int_equal(quota_at(next), QUOTA);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(next, NULL), VARVE_OK);
}

static varve_store
    *loses[3]; /* owner, next, peer: when the peer has the answer to its limits, but does not know it yet */

static int64_t
late_receive(struct env_socket *socket, void *buf, size_t size, uint64_t timeout_ms, struct env_file **file)
{
    int64_t got = real->receive(socket, buf, size, timeout_ms, file);
    varve_store *owner = loses[0];

    if (owner != NULL && got > 0 && is_of_type(buf, (size_t)got, MESSAGE_LIMITS)) {
        loses[0] = NULL;
        succeed(owner, loses[1]);
        assert_int_equal(probe(loses[2]), 0); /* meets the next */
    }
    return got;
}

static void
test_limits_between_owners(void **state)
{
    varve_store *owner = open_store(true);

    (void)state;
    hooked.receive = late_receive;
    loses[1] = open_store(true);
    loses[2] = open_with(true, &hooked, TIMEOUT_MS);
    (void)namespace_get(loses[2], "test");
    loses[0] = owner;
    assert_int_equal(limit(loses[2]), VARVE_OK);
    assert_null(loses[0]);
    assert_int_equal(quota_at(loses[1]), QUOTA);
    assert_int_equal(varve_close(loses[2], NULL), VARVE_OK);
    assert_int_equal(varve_close(loses[1], NULL), VARVE_OK);
}

/* A thread that opens a namespace of the store, by a name that nobody has. */
static struct {
    pthread_t thread;
    varve_store *store;
    bool begun;
    int rc;
} opener;

static void *
opener_main(void *arg)
{
    varve_namespace *ns;

    (void)arg;
    opener.rc = varve_namespace_open(opener.store, "late", NULL, &ns, NULL);
    return NULL;
}

/* Whether somebody holds the lock, or does so soon. */
static bool
is_taken(struct mutex *mutex)
{
    for (int tries = 0; tries < 50; tries++) {
        if (pthread_mutex_trylock(&mutex->native) != 0)
            return true;
        mutex_unlock(mutex);
        real->sleep_ms(opener.store->env, 1);
    }
    return false;
}

/* The thread begins in the middle of an election, when the lock is had. */
static int
opening_lock(struct env *env, const char *name, bool shared, struct env_file **out)
{
    int rc = real->lock(env, name, shared, out);

    if (rc == 0 && opener.store != NULL && !opener.begun && strcmp(name, FORMAT_LOCK_NAME) == 0) {
        opener.begun = true;
        assert_int_equal(pthread_create(&opener.thread, NULL, opener_main, NULL), 0);
        (void)is_taken(&opener.store->namespace_change);
    }
    return rc;
}

/* Whoever opens a namespace while this process becomes the owner does not keep it from that, nor itself waiting for it. */
static void
test_open_in_election(void **state)
{
    varve_store *owner = open_store(true), *peer;

    (void)state;
    memset(&opener, 0, sizeof(opener));
    hooked.lock = opening_lock;
    peer = open_with(true, &hooked, 1000);
    assert_int_equal(limit(peer), VARVE_OK);
    opener.store = peer;
    succeed(owner, peer);
    assert_true(opener.begun);
    assert_int_equal(pthread_join(opener.thread, NULL), 0);
    assert_int_equal(opener.rc, VARVE_OK);
    assert_int_equal(quota_at(peer), QUOTA);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
}

static int64_t
superseding_receive(struct env_socket *socket, void *buf, size_t size, uint64_t timeout_ms, struct env_file **file)
{
    int64_t got = real->receive(socket, buf, size, timeout_ms, file);
    varve_store *owner = loses[0], *peer = loses[2];

    if (owner != NULL && got > 0 && is_of_type(buf, (size_t)got, MESSAGE_NAMESPACE_OPEN)) {
        loses[0] = NULL;
        succeed(owner, peer);
        assert_int_equal(varve_namespace_clear(peer, namespace_get(peer, "late"), NULL), VARVE_OK);
        assert_int_equal(put(peer, namespace_get(peer, "late"), 1), PAGES);
    }
    return got;
}

/* The number of a namespace that the owner before said is not that of the owner that this process is by now. */
static void
test_late_number(void **state)
{
    varve_store *owner = open_store(true), *peer;
    const varve_id id = {{1, 0, 1}};

    (void)state;
    hooked.receive = superseding_receive;
    loses[0] = NULL;
    peer = open_with(true, &hooked, TIMEOUT_MS);
    (void)namespace_get(peer, "test");
    loses[0] = owner;
    loses[2] = peer;
    assert_int_equal(varve_probe(peer, namespace_get(peer, "late"), &id, 1, NULL, NULL), 1);
    assert_null(loses[0]);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
}

#define CALLERS 40

/* Threads that probe at once, and what they use for it: answers wait for the gate. */
static struct {
    struct mutex lock;
    struct cond changed;
    bool open;
    int answered, connections, connections_most;
    varve_store *store;
    varve_namespace *ns;
} gate;

static int
counted_connect(struct env *env, const char *name, struct env_socket **out)
{
    int rc = real->connect(env, name, out);

    mutex_lock(&gate.lock);
    gate.connections += rc == 0;
    if (gate.connections > gate.connections_most)
        gate.connections_most = gate.connections;
    mutex_unlock(&gate.lock);
    return rc;
}

static void
counted_close(struct env_socket *socket)
{
    mutex_lock(&gate.lock);
    gate.connections--;
    mutex_unlock(&gate.lock);
    real->close(socket);
}

static int64_t
gated_receive(struct env_socket *socket, void *buf, size_t size, uint64_t timeout_ms, struct env_file **file)
{
    int64_t got = real->receive(socket, buf, size, timeout_ms, file);

    if (got > 0 && is_of_type(buf, (size_t)got, MESSAGE_PROBE)) {
        mutex_lock(&gate.lock);
        gate.answered++;
        cond_broadcast(&gate.changed);
        while (!gate.open)
            cond_wait(&gate.changed, &gate.lock);
        mutex_unlock(&gate.lock);
    }
    return got;
}

static void *
caller_main(void *arg)
{
    const varve_id id = {{1, 0, 1}};

    *(int64_t *)arg = varve_probe(gate.store, gate.ns, &id, 1, NULL, NULL);
    return NULL;
}

/* As many connections as one process may have are in use, and all other calls wait. */
static void
wait_until_full(void)
{
    struct peer *peer = gate.store->peer;

    mutex_lock(&gate.lock);
    while (gate.answered < PEER_LINKS_MAX)
        cond_wait(&gate.changed, &gate.lock);
    mutex_unlock(&gate.lock);
    for (uint32_t waiting = 0; waiting < CALLERS - PEER_LINKS_MAX;) {
        mutex_lock(&peer->lock);
        waiting = peer->waiting;
        mutex_unlock(&peer->lock);
        real->sleep_ms(peer->env, 1);
    }
}

/* Calls of many threads share the connections that a process may have; iterations have their own. */
static void
test_many_callers(void **state)
{
    varve_store *owner = open_store(true);
    pthread_t threads[CALLERS];
    int64_t found[CALLERS];
    varve_iter *iter;

    (void)state;
    memset(&gate, 0, sizeof(gate));
    mutex_init(&gate.lock);
    cond_init(&gate.changed);
    hooked.connect = counted_connect;
    hooked.close = counted_close;
    hooked.receive = gated_receive;
    gate.store = open_with(true, &hooked, TIMEOUT_MS);
    gate.ns = namespace_get(gate.store, "test");
    assert_int_equal(put(gate.store, gate.ns, 1), PAGES);
    assert_int_equal(varve_iter_open(gate.store, gate.ns, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, caller_main, &found[i]), 0);
    wait_until_full();
    assert_int_equal(gate.answered, PEER_LINKS_MAX);
    mutex_lock(&gate.lock);
    gate.open = true;
    cond_broadcast(&gate.changed);
    mutex_unlock(&gate.lock);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(found[i], 1);
    }
    varve_iter_close(iter);
    assert_int_equal(gate.connections_most, PEER_LINKS_MAX + 1);
    assert_int_equal(gate.connections, PEER_LINKS_MAX);
    assert_int_equal(varve_close(gate.store, NULL), VARVE_OK);
    assert_int_equal(gate.connections, 0);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    cond_deinit(&gate.changed);
    mutex_deinit(&gate.lock);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_alone_beside_writer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits_without_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits_unanswered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits_between_owners, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_in_election, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_late_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_callers, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
