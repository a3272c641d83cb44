/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store that is too small for what is put: writers, readers, removals, a namespace that is cleared, and a capacity that goes up and down, while a thread
 * adds up what the directory takes without pause. That is never above the capacity, nor, after that was lowered, above what was used then. Every page that is read is
 * compared; what was removed stays gone, also across a reopen.
 */
#include "api_util.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define WRITERS          3
#define READERS          2
#define NAMESPACES       3  /* the last is cleared now and then */
#define FAMILIES         20 /* of each writer */
#define FAR              1000000
#define TRUNK            12 /* pages of a family's trunk */
#define BRANCHES         3  /* that leave it */
#define BRANCH           6  /* pages of a branch */
#define PATH_MAX_PAGES   (TRUNK + BRANCH)
#define REMOVED_MAX      64
#define MIB              ((uint64_t)1 << 20)
#define SEGMENT_SPACE    ((uint64_t)260 << 10) /* of small stores, with what is reckoned for its entry */
#define SHRINK_MS_MAX    20000
#define SMALL_DISK_BYTES (28 * MIB)
#define MIN_FREE         (6 * MIB)

struct removed {
    uint64_t chain;
    size_t page;
};

struct churn {
    const char *path;
    const char *disk; /* the file system's, where it is one of its own */
    varve_store *store;
    varve_namespace *ns[NAMESPACES];
    varve_namespace *own; /* of the thread that removes: nobody else puts there */
    _Atomic uint64_t put[WRITERS];
    atomic_bool stop;
    _Atomic uint64_t failures; /* cmocka's assertions are for its own thread only */
    _Atomic uint64_t right, samples, cleared;
    _Atomic uint64_t next_writer;
    _Atomic uint64_t next_reader;
    struct removed removed[REMOVED_MAX];
    size_t removed_count;
    pthread_mutex_t limit_lock;
    uint64_t limit;         /* what the directory may take now */
    uint64_t limit_changes; /* how often it was set */
    uint64_t highest;       /* sample */
};

static void
expect(struct churn *churn, bool holds, const char *what)
{
    if (!holds && atomic_fetch_add(&churn->failures, 1) < 10)
        print_error("%s\n", what);
}

static uint64_t
now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Pages of a namespace differ in size, and so do those of a chain, but not by much. */
static size_t
page_size(uint64_t family, size_t index)
{
    static const size_t usual[] = {1024, 4096, 9001, 20000, 65536, 300 * 1024};
    size_t kind = family % 17 == 0 ? 5 : (size_t)(family % 5);

    return usual[kind] - (index % 3 == 2 ? index * 7 : 0);
}

/* A path from the root: `branch` 0 is the trunk alone, the others leave it at a page of theirs. */
static size_t
path_init(struct batch *batch, uint64_t family, uint64_t branch, size_t skew)
{
    size_t trunk = branch == 0 ? TRUNK : 3 * (size_t)branch, count = branch == 0 ? TRUNK : trunk + BRANCH;
    size_t sizes[PATH_MAX_PAGES] = {0};

    for (size_t i = 0; i < count; i++)
        sizes[i] = page_size(family, i);
    batch_init_sizes(batch, family * 8, 0, count, sizes, skew);
    for (size_t i = trunk; i < count; i++)
        batch->pages[i].id = page_id(family * 8 + branch, i);
    return trunk;
}

/* Whether puts went as they should. */
static void
check_put(struct churn *churn, int rc, const varve_page *pages, size_t count)
{
    expect(churn, rc == VARVE_OK, "a put did not run");
    for (size_t i = 0; i < count; i++) {
        expect(churn, pages[i].status == VARVE_OK || pages[i].status == VARVE_SKIPPED, "a page was refused");
    }
}

static void
put_family(struct churn *churn, varve_namespace *ns, uint64_t family)
{
    for (uint64_t branch = 0; branch <= BRANCHES; branch++) {
        struct batch batch;
        size_t from = path_init(&batch, family, branch, family % 2);
        int rc;

        if (branch == 0)
            from = 0;
        batch_fill(&batch);
        rc = varve_put_batch(churn->store, ns, from == 0 ? NULL : &batch.pages[from - 1].id, batch.pages + from,
                             batch.count - from, family % 16 == 0 ? VARVE_PUT_SYNC : 0, NULL);
        check_put(churn, rc, batch.pages + from, batch.count - from);
        batch_free(&batch);
    }
}

/* The namespace of a family. */
static varve_namespace *
home(const struct churn *churn, uint64_t family)
{
    return churn->ns[family % NAMESPACES];
}

static void *
writer_main(void *arg)
{
    struct churn *churn = arg;
    uint64_t writer = atomic_fetch_add(&churn->next_writer, 1);

    for (uint64_t i = 0; i < FAMILIES; i++) {
        put_family(churn, home(churn, writer * FAR + i), writer * FAR + i);
        atomic_store(&churn->put[writer], i + 1);
    }
    return NULL;
}

/* Get pages, and compare those that come. */
static void
get_and_compare(struct churn *churn, varve_namespace *ns, struct batch *batch)
{
    batch_wipe(batch);
    expect(churn, varve_get_batch(churn->store, ns, batch->pages, batch->count, NULL) == VARVE_OK, "a get did not run");
    for (size_t i = 0; i < batch->count; i++) {
        const varve_page *page = &batch->pages[i];

        if (page->status == VARVE_MISS)
            continue;
        expect(churn,
               page->status == VARVE_OK && page->size == page->iov->iov_len &&
                   page_right(&page->id, page->iov->iov_base, page->iov->iov_len),
               "a page is wrong");
        atomic_fetch_add(&churn->right, 1);
    }
}

/* Half of what is read is young, and the rest one of a few old families, which so stay live while what lies around them dies. */
static void *
reader_main(void *arg)
{
    struct churn *churn = arg;
    uint64_t rng = 1000 + atomic_fetch_add(&churn->next_reader, 1);

    while (!atomic_load(&churn->stop)) {
        uint64_t writer = rng_below(&rng, WRITERS), put = atomic_load(&churn->put[writer]);
        uint64_t back = rng_below(&rng, 6);
        uint64_t family = rng_below(&rng, 2) == 0 ? rng_below(&rng, 8) * 4 : put > back ? put - back : 0;
        varve_id ids[PATH_MAX_PAGES];
        struct batch batch;
        int64_t found;

        family += writer * FAR;
        (void)path_init(&batch, family, rng_below(&rng, BRANCHES + 1), rng_below(&rng, 2) * 8);
        for (size_t i = 0; i < batch.count; i++)
            ids[i] = batch.pages[i].id;
        found = varve_probe(churn->store, home(churn, family), ids, batch.count, NULL, NULL);
        expect(churn, found >= 0 && found <= (int64_t)batch.count, "a probe failed");
        get_and_compare(churn, home(churn, family), &batch);
        batch_free(&batch);
    }
    return NULL;
}

/* Pages that were removed, and not put again, are misses. */
static void
check_removed(struct churn *churn, uint64_t family, size_t index)
{
    struct batch batch;

    (void)path_init(&batch, family, 0, 0);
    get_and_compare(churn, churn->own, &batch);
    expect(churn, batch.pages[index].status == VARVE_MISS, "a removed page came back");
    batch_free(&batch);
}

/* Put, remove, read what was removed lately; and clear a namespace now and then. */
static void *
remover_main(void *arg)
{
    struct churn *churn = arg;
    uint64_t rng = 77;

    for (uint64_t i = 0; !atomic_load(&churn->stop); i++) {
        uint64_t family = 17 * (5 * FAR + i) + 1 + i % 4,
                 other = rng_below(&rng, WRITERS) * FAR + rng_below(&rng, FAMILIES);
        struct removed *removed = &churn->removed[i % REMOVED_MAX];
        varve_id id;

        *removed = (struct removed){family, rng_below(&rng, TRUNK)};
        put_family(churn, churn->own, family);
        id = page_id(family * 8, removed->page);
        expect(churn, varve_remove_batch(churn->store, churn->own, &id, 1, NULL) >= 0, "a removal failed");
        if (churn->removed_count < REMOVED_MAX)
            churn->removed_count++;
        removed = &churn->removed[rng_below(&rng, churn->removed_count)];
        check_removed(churn, removed->chain, removed->page);
        id = page_id(other * 8, rng_below(&rng, TRUNK));
        expect(churn, varve_remove_batch(churn->store, home(churn, other), &id, 1, NULL) >= 0, "a removal failed");
        if (i % 8 == 7) {
            expect(churn, varve_namespace_clear(churn->store, churn->ns[NAMESPACES - 1], NULL) == VARVE_OK,
                   "a namespace could not be cleared");
            atomic_fetch_add(&churn->cleared, 1);
        }
    }
    return NULL;
}

/* Allocated bytes of the files in the directory, and of itself. */
static uint64_t
directory_bytes(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    uint64_t bytes = 0;
    struct stat status;

    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &status, 0) == 0)
            bytes += (uint64_t)status.st_blocks * 512;
    }
    (void)closedir(dir);
    return bytes;
}

/* Add up what the directory takes, without pause. A sample during which the limit changed shows nothing. */
static void *
sampler_main(void *arg)
{
    struct churn *churn = arg;

    while (!atomic_load(&churn->stop)) {
        uint64_t changes, bytes;

        (void)pthread_mutex_lock(&churn->limit_lock);
        changes = churn->limit_changes;
        (void)pthread_mutex_unlock(&churn->limit_lock);
        bytes = directory_bytes(churn->path);
        (void)pthread_mutex_lock(&churn->limit_lock);
        if (changes == churn->limit_changes) {
            if (bytes > churn->limit && atomic_fetch_add(&churn->failures, 1) < 10)
                print_error("%llu bytes in the directory, %llu are allowed\n", (unsigned long long)bytes,
                            (unsigned long long)churn->limit);
            churn->highest = bytes > churn->highest ? bytes : churn->highest;
            atomic_fetch_add(&churn->samples, 1);
        }
        (void)pthread_mutex_unlock(&churn->limit_lock);
    }
    return NULL;
}

static void
set_limit(struct churn *churn, uint64_t limit)
{
    (void)pthread_mutex_lock(&churn->limit_lock);
    churn->limit = limit;
    churn->limit_changes++;
    (void)pthread_mutex_unlock(&churn->limit_lock);
}

/*
 * Raised, there is more room at once. Lowered: no more than is used now from then on; when that has become less no more than it and a segment of survivors; and the capacity within moments.
 */
static void
change_capacity(struct churn *churn, uint64_t from, uint64_t capacity)
{
    uint64_t begin, used;
    char text[32];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)capacity);
    set_limit(churn, from > capacity ? from : capacity);
    expect(churn, varve_option_set(churn->store, "capacity", text, NULL) == VARVE_OK, "the capacity cannot be set");
    begin = now_ms();
    while ((used = stat_value(churn->store, "disk_bytes")) > capacity && now_ms() - begin < SHRINK_MS_MAX) {
        if (used + SEGMENT_SPACE < churn->limit)
            set_limit(churn, used + SEGMENT_SPACE);
        (void)usleep(1000);
    }
    expect(churn, used <= capacity, "a lower capacity was not reached");
    set_limit(churn, capacity);
}

static bool
writing(const struct churn *churn)
{
    for (size_t i = 0; i < WRITERS; i++) {
        if (atomic_load(&churn->put[i]) < FAMILIES)
            return true;
    }
    return false;
}

/* What the main thread does while the others are at it; at least once, then as long as there are writers. */
typedef void step(struct churn *churn, uint64_t index);

static void
capacity_step(struct churn *churn, uint64_t index)
{
    static const uint64_t capacities[] = {12 * MIB, 8 * MIB, 10 * MIB, 6 * MIB, 16 * MIB, 9 * MIB};
    size_t count = sizeof(capacities) / sizeof(capacities[0]);

    change_capacity(churn, capacities[index % count], capacities[(index + 1) % count]);
    (void)usleep(50000);
}

static void
churn_begin(struct churn *churn, const char *path, const char *const *settings)
{
    static const char *const names[] = {"a", "b", "cleared"};

    *churn = (struct churn){.path = path};
    assert_int_equal(pthread_mutex_init(&churn->limit_lock, NULL), 0);
    churn->store = store_open_with(path, settings);
    for (size_t i = 0; i < NAMESPACES; i++)
        churn->ns[i] = namespace_get(churn->store, names[i]);
    churn->own = namespace_get(churn->store, "removed");
    churn->limit = stat_value(churn->store, "capacity_bytes");
}

static void
churn_run(struct churn *churn, step *each)
{
    pthread_t writers[WRITERS], readers[READERS], remover, sampler;

    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, writer_main, churn), 0);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader_main, churn), 0);
    assert_int_equal(pthread_create(&remover, NULL, remover_main, churn), 0);
    assert_int_equal(pthread_create(&sampler, NULL, sampler_main, churn), 0);
    for (uint64_t i = 0; i == 0 || writing(churn); i++)
        each(churn, i);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(writers[i], NULL), 0);
    atomic_store(&churn->stop, true);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(readers[i], NULL), 0);
    assert_int_equal(pthread_join(remover, NULL), 0);
    assert_int_equal(pthread_join(sampler, NULL), 0);
    print_message("%llu pages right, %llu samples up to %.1f MiB, %llu segments dropped, %llu survivors\n",
                  (unsigned long long)churn->right, (unsigned long long)churn->samples,
                  (double)churn->highest / (double)MIB,
                  (unsigned long long)stat_value(churn->store, "segments_dropped"),
                  (unsigned long long)stat_value(churn->store, "survivor_pages"));
}

/* What must hold once all is quiet: the accounts are what the directory holds, every page that is found is right, and what was removed is gone. */
static void
check_quiet(struct churn *churn)
{
    uint64_t right = churn->right;

    check_clean(churn->store);
    assert_int_equal(stat_value(churn->store, "get_corrupt"), 0);
    assert_int_equal(stat_value(churn->store, "put_errors_device"), 0);
    for (uint64_t writer = 0; writer < WRITERS; writer++) {
        for (uint64_t i = 0; i < FAMILIES; i++) {
            for (uint64_t branch = 0; branch <= BRANCHES; branch++) {
                struct batch batch;

                (void)path_init(&batch, writer * FAR + i, branch, 0);
                get_and_compare(churn, home(churn, writer * FAR + i), &batch);
                batch_free(&batch);
            }
        }
    }
    for (size_t i = 0; i < churn->removed_count; i++)
        check_removed(churn, churn->removed[i].chain, churn->removed[i].page);
    assert_true(churn->right > right);
    assert_int_equal(churn->failures, 0);
}

static void
churn_end(struct churn *churn, const char *const *settings)
{
    uint64_t removed_count = churn->removed_count;

    assert_int_equal(churn->failures, 0);
    assert_true(churn->samples > 10);
    assert_true(churn->cleared > 0);
    assert_true(stat_value(churn->store, "segments_dropped") > 0);
    assert_true(stat_value(churn->store, "survivor_pages") > 0);
    check_quiet(churn);
    assert_int_equal(stat_value(churn->store, "background_errors"), 0);
    store_close(churn->store);
    assert_true(removed_count > 0);
    churn->store = store_open_with(churn->path, settings);
    churn->ns[0] = namespace_get(churn->store, "a");
    churn->ns[1] = namespace_get(churn->store, "b");
    churn->ns[2] = namespace_get(churn->store, "cleared");
    churn->own = namespace_get(churn->store, "removed");
    check_quiet(churn);
    assert_true(directory_bytes(churn->path) <= stat_value(churn->store, "capacity_bytes"));
    store_close(churn->store);
    assert_int_equal(pthread_mutex_destroy(&churn->limit_lock), 0);
}

static void
test_capacity(void **state)
{
    static const char *const settings[] = {"capacity=12M", "memtable_bytes=256K", NULL};
    static const char *const after[] = {"capacity=16M", NULL};
    char path[PATH_BYTES];
    struct churn churn;

    (void)state;
    scratch_create(path);
    churn_begin(&churn, path, settings);
    churn_run(&churn, capacity_step);
    churn_end(&churn, after);
    scratch_remove(path);
}

/* A file system of its own for the store, which goes with this process. */
static void
small_disk_mount(const char *path)
{
    char size[32];

    (void)snprintf(size, sizeof(size), "size=%llu", (unsigned long long)SMALL_DISK_BYTES);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("churn", path, "tmpfs", 0, size) != 0) {
        print_message("skipped: a file system can be mounted by root only\n");
        assert_int_equal(rmdir(path), 0);
        skip();
    }
}

static uint64_t
small_disk_free(const char *path)
{
    struct statvfs fs;

    return statvfs(path, &fs) != 0 ? 0 : (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* A file beside the store takes about that much: more or less than before. As much as there is, where there is less. */
static void
ballast_set(const char *disk, uint64_t bytes)
{
    char name[PATH_BYTES];
    int fd;

    (void)snprintf(name, sizeof(name), "%.*s/ballast", PATH_BYTES - 16, disk);
    fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return;
    for (uint64_t at = 0; at < bytes && posix_fallocate(fd, (off_t)at, MIB) == 0; at += MIB) {
    }
    (void)close(fd);
}

/* Others take space of the file system, and give it back; the store makes room for what is to stay free. */
static void
min_free_step(struct churn *churn, uint64_t index)
{
    static const uint64_t ballast[] = {0, 12 * MIB, 4 * MIB, 14 * MIB};
    uint64_t begin = now_ms(), available;

    ballast_set(churn->disk, ballast[index % 4]);
    while ((available = small_disk_free(churn->disk)) < MIN_FREE && now_ms() - begin < SHRINK_MS_MAX)
        (void)usleep(1000);
    expect(churn, available >= MIN_FREE, "min_free was not reached");
    (void)usleep(30000);
}

/* The file system is full, now more, now less: the store lives with what there is. */
static void
full_step(struct churn *churn, uint64_t index)
{
    ballast_set(churn->disk, index % 2 == 0 ? 12 * MIB : 4 * MIB);
    (void)usleep(50000);
}

static void
on_small_disk(const char *const *settings, step *each)
{
    char disk[PATH_BYTES], path[PATH_BYTES];
    struct churn churn;

    scratch_create(disk);
    small_disk_mount(disk);
    (void)snprintf(path, sizeof(path), "%.*s/store", PATH_BYTES - 8, disk);
    assert_int_equal(mkdir(path, 0700), 0);
    churn_begin(&churn, path, settings);
    churn.disk = disk;
    churn_run(&churn, each);
    ballast_set(disk, 0);
    churn_end(&churn, settings);
    assert_int_equal(umount2(disk, MNT_DETACH), 0);
    assert_int_equal(rmdir(disk), 0);
}

static void
test_min_free(void **state)
{
    static const char *const settings[] = {"capacity=26M", "min_free=6M", "memtable_bytes=256K", NULL};

    (void)state;
    on_small_disk(settings, min_free_step);
}

static void
test_full(void **state)
{
    static const char *const settings[] = {"capacity=64M", "memtable_bytes=256K", NULL};

    (void)state;
    on_small_disk(settings, full_step);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_min_free),
        cmocka_unit_test(test_full),
    };

    scratch_require(64 * MIB);
    return cmocka_run_group_tests_name("churn", tests, NULL, NULL);
}
