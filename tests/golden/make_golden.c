/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the golden images of the present format version: `make_golden DIR` writes one directory and one list of pages an image into DIR.
 * Stores run on the simulated disk, so the same program makes the same bytes, crashes included. README.md says when to run it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "golden_pages.h"
#include "store/store.h"
#include "store_image.h"

#define PAGE_BYTES_MAX ((size_t)256 * 1024) /* of a batch */

struct golden {
    struct sim_disk *disk;
    varve_store *store;
    FILE *list; /* of pages */
};

static void
must(bool condition, const char *what)
{
    if (condition)
        return;
    (void)fprintf(stderr, "make_golden: %s\n", what);
    exit(1);
}

static void
open_store(struct golden *golden)
{
    static const char *const settings[][2] = {
        {"capacity", "8M"},  {"segment_bytes", "64K"}, {"memtable_bytes", "256K"}, {"background", "off"},
        {"size_ratio", "2"}, {"runs_per_level", "1"},  {"runs_last_level", "1"},
    };
    varve_options *options = varve_options_create();
    varve_error err = {0};

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        must(varve_options_set(options, settings[i][0], settings[i][1], &err) == VARVE_OK, err.message);
    must(store_open(sim_disk_env(golden->disk), options, &golden->store, &err) == VARVE_OK, err.message);
    varve_options_destroy(options);
}

static void
close_store(struct golden *golden)
{
    must(varve_close(golden->store, NULL) == VARVE_OK, "close");
}

static void
kill_store(struct golden *golden)
{
    sim_disk_stop(golden->disk);
    store_abandon(golden->store);
    sim_disk_crash(golden->disk, SIM_CRASH_KILL, 1);
}

static varve_namespace *
open_namespace(const struct golden *golden, const char *name)
{
    varve_namespace *ns = NULL;

    must(varve_namespace_open(golden->store, name, NULL, &ns, NULL) == VARVE_OK, "namespace");
    return ns;
}

static void
say(const struct golden *golden, const char *kind, const char *ns, const uint32_t place[3], size_t size)
{
    (void)fprintf(golden->list, "%s %s %" PRIu32 " %" PRIu32 " %" PRIu32 " %zu\n", kind, ns, place[0], place[1],
                  place[2], size);
}

/* Put pages [first, first + count) of a chain. */
static void
put_quietly(const struct golden *golden, const char *ns, const uint32_t place[3], size_t size)
{
    static uint8_t bytes[PAGE_BYTES_MAX];
    uint32_t first = place[1], count = place[2];
    varve_page *pages = calloc(count, sizeof(*pages));
    struct iovec *iov = calloc(count, sizeof(*iov));
    varve_id ids[GOLDEN_CHAIN_MAX];

    must(pages != NULL && iov != NULL && size * count <= sizeof(bytes), "a batch is too large");
    golden_ids(place[0], first + count, ids);
    for (uint32_t i = 0; i < count; i++) {
        iov[i] = (struct iovec){bytes + i * size, size};
        pages[i] = (varve_page){.id = ids[first + i], .iov = &iov[i], .iov_count = 1};
        golden_fill(&pages[i].id, iov[i].iov_base, size);
    }
    must(varve_put_batch(golden->store, open_namespace(golden, ns), first == 0 ? NULL : &ids[first - 1], pages, count,
                         0, NULL) == VARVE_OK,
         "put");
    for (uint32_t i = 0; i < count; i++)
        must(pages[i].status == VARVE_OK, "a page was not stored");
    free(pages);
    free(iov);
}

static void
put(const struct golden *golden, const char *ns, uint32_t chain, uint32_t first, uint32_t count, size_t size)
{
    const uint32_t place[3] = {chain, first, count};

    put_quietly(golden, ns, place, size);
    say(golden, "present", ns, place, size);
}

static void
put_and_remove(const struct golden *golden, const char *ns, uint32_t chain, uint32_t first, uint32_t count, size_t size)
{
    const uint32_t place[3] = {chain, first, count};
    varve_id ids[GOLDEN_CHAIN_MAX];

    put_quietly(golden, ns, place, size);
    golden_ids(chain, first + count, ids);
    must(varve_remove_batch(golden->store, open_namespace(golden, ns), ids + first, count, NULL) == count, "remove");
    say(golden, "absent", ns, place, size);
}

static void
put_and_clear(const struct golden *golden, const char *ns, uint32_t chain, uint32_t count, size_t size)
{
    const uint32_t place[3] = {chain, 0, count};

    put_quietly(golden, ns, place, size);
    must(varve_namespace_clear(golden->store, open_namespace(golden, ns), NULL) == VARVE_OK, "clear");
    say(golden, "absent", ns, place, size);
}

/* One namespace, closed. */
static void
make_clean(struct golden *golden)
{
    open_store(golden);
    put(golden, "model-a/bf16", 1, 0, 12, 1000);
    put(golden, "model-a/bf16", 1, 12, 4, 4096);
    put(golden, "model-a/bf16", 2, 0, 1, 50000);
    close_store(golden);
}

/* Killed before anything was flushed: the log has all there is. */
static void
make_killed(struct golden *golden)
{
    open_store(golden);
    put(golden, "a", 1, 0, 10, 700);
    must(varve_sync(golden->store, NULL) == VARVE_OK, "sync");
    put(golden, "a", 1, 10, 6, 512);
    put(golden, "b", 1, 0, 5, 0);
    kill_store(golden);
}

/* What one more life puts. */
static void
put_life(const struct golden *golden, uint32_t life)
{
    put(golden, "rank-0", life, 0, 20 + life, 300 * life % 1700);
    put(golden, "rank-1", 100 + life % 3, life * 5, 5, life); /* a chain that goes on from life to life */
    put(golden, "rank-1", 200, life, 1, 20001 - life);
}

/* Levels of runs, namespaces, one of them cleared, pages removed, page sizes that are odd, equal and zero. */
static void
make_levels(struct golden *golden)
{
    for (uint32_t life = 1; life <= 9; life++) {
        open_store(golden);
        put_life(golden, life);
        while (store_tick(golden->store))
            ;
        if (life == 3) {
            put_and_clear(golden, "cleared", 1, 30, 64);
            put(golden, "cleared", 2, 0, 3, 65);
        }
        if (life == 4) /* more than one block */
            put(golden, "rank-0", 60, 0, 700, 0);
        if (life == 5)
            put_and_remove(golden, "rank-0", 50, 0, 10, 513);
        if (life == 6) { /* removed, and put again */
            put_and_remove(golden, "rank-0", 51, 0, 4, 100);
            put(golden, "rank-0", 52, 0, 4, 0);
        }
        close_store(golden);
    }
}

static void
declare(const struct golden *golden, const char *name, enum varve_element element)
{
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    varve_namespace *ns;

    attributes.element_type = (uint32_t)element;
    must(varve_namespace_open(golden->store, name, &attributes, &ns, NULL) == VARVE_OK, "namespace");
}

/* Coded pages of every element type, of one and of several blocks, with and without bytes after the last element, beside pages as they are. */
static void
make_coded(struct golden *golden)
{
    open_store(golden);
    must(varve_option_set(golden->store, "codec", "on", NULL) == VARVE_OK, "codec=on");
    declare(golden, "bf16", VARVE_ELEMENT_BF16);
    declare(golden, "fp16", VARVE_ELEMENT_FP16);
    declare(golden, "fp32", VARVE_ELEMENT_FP32);
    declare(golden, "fp8", VARVE_ELEMENT_FP8);
    put(golden, "bf16", 1, 0, 12, 5000);
    put(golden, "bf16", 1, 12, 1, 140001);
    put(golden, "fp16", 1, 0, 3, 20000);
    put(golden, "fp32", 1, 0, 2, 100003);
    put(golden, "fp8", 1, 0, 1, 200001);
    put(golden, "bytes", 1, 0, 3, 5000);
    must(varve_option_set(golden->store, "codec", "off", NULL) == VARVE_OK, "codec=off");
    put(golden, "bf16", 1, 13, 4, 5000);
    must(varve_option_set(golden->store, "codec", "on", NULL) == VARVE_OK, "codec=on");
    close_store(golden);
    open_store(golden);
    must(varve_option_set(golden->store, "codec", "on", NULL) == VARVE_OK, "codec=on");
    put(golden, "bf16", 2, 0, 20, 3001);
    put_and_remove(golden, "bf16", 3, 0, 2, 3000);
    must(atomic_load(&golden->store->counters.codec_put_pages) == 22, "nothing was coded");
    must(varve_sync(golden->store, NULL) == VARVE_OK, "sync");
    kill_store(golden);
}

static size_t
count_files(const struct image *image, const char *suffix)
{
    size_t count = 0;

    for (size_t i = 0; i < image->count; i++)
        count += strstr(image->files[i].name, suffix) != NULL;
    return count;
}

static struct sim_disk *
make_disk(uint64_t seed, const struct image *image)
{
    const struct sim_disk_settings settings = {
        .seed = seed, .io_align = 512, .direct_io = true, .sector_bytes = 512, .queue_depth = 8};
    struct sim_disk *disk = sim_disk_create(&settings);

    must(disk != NULL, "memory");
    image_put(image, disk);
    return disk;
}

/* On the store of `image`: kill it at the n-th change that merging makes. True: the output of a merge was begun then, and not named. */
static bool
kill_while_merging(struct golden *golden, const struct image *image, uint64_t n)
{
    struct image now;
    bool begun;

    sim_disk_destroy(golden->disk);
    golden->disk = make_disk(21, image);
    open_store(golden);
    sim_disk_crash_after(golden->disk, n);
    while (store_tick(golden->store))
        ;
    must(golden->disk->stopped, "no merge was begun");
    store_abandon(golden->store);
    sim_disk_crash(golden->disk, SIM_CRASH_KILL, 1);
    image_take(golden->disk, &now);
    begun = count_files(&now, ".run") > count_files(image, ".run");
    image_free(&now);
    return begun;
}

static void
make_merging(struct golden *golden)
{
    struct image before;
    uint64_t n = 1;

    for (uint32_t life = 1; life <= 2; life++) {
        open_store(golden);
        put_life(golden, life);
        close_store(golden);
    }
    image_take(golden->disk, &before);
    must(count_files(&before, ".run") == 2, "there are not two runs to be merged");
    while (!kill_while_merging(golden, &before, n))
        n++;
    must(kill_while_merging(golden, &before, n + 1), "the output is there for one change only"); /* with bytes in it */
    image_free(&before);
}

static struct image_file *
last_file(struct image *image, const char *suffix)
{
    struct image_file *last = NULL;

    for (size_t i = 0; i < image->count; i++) {
        if (strstr(image->files[i].name, suffix) != NULL)
            last = &image->files[i];
    }
    return last;
}

/* Bytes before the zeros at the end. */
static size_t
written(const struct image_file *file)
{
    size_t end = file->size;

    while (end > 0 && file->data[end - 1] == 0)
        end--;
    return end;
}

/* Killed, with an extent and an edit that were written in part, and a CURRENT that was not renamed. */
static void
make_torn(struct golden *golden, struct image *image)
{
    const uint32_t torn[3] = {3, 7, 1};
    struct image_file *file;
    size_t end;

    open_store(golden);
    put(golden, "a", 1, 0, 10, 1000);
    close_store(golden);
    open_store(golden);
    put(golden, "a", 2, 0, 10, 0);
    put_quietly(golden, "a", (const uint32_t[]){3, 0, 8}, 1500);
    say(golden, "present", "a", (const uint32_t[]){3, 0, 7}, 1500);
    say(golden, "absent", "a", torn, 1500);
    kill_store(golden);

    image_take(golden->disk, image);
    file = last_file(image, ".seg"); /* the last page */
    memset(file->data + written(file) - 40, 0, 40);
    file = last_file(image, ".manifest");
    end = file->size;
    image_resize(file, end + 13);
    memcpy(file->data + end, "EDIT\x40\0\0\0\x07\0\0\0", 13);
    file = image_add(image, "CURRENT.tmp");
    image_resize(file, 7);
    memcpy(file->data, "0000000", 7);
}

static void
write_image(const struct image *image, const char *dir, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    must(mkdir(path, 0700) == 0, "mkdir");
    for (size_t i = 0; i < image->count; i++) {
        const struct image_file *from = &image->files[i];
        FILE *file;

        (void)snprintf(path, sizeof(path), "%s/%s/%s", dir, name, from->name);
        file = fopen(path, "wb");
        must(file != NULL && fwrite(from->data, 1, from->size, file) == from->size && fclose(file) == 0, "write");
    }
}

static void
make(const char *dir, const char *name, void (*plain)(struct golden *), void (*edited)(struct golden *, struct image *))
{
    struct image image = {.count = 0};
    struct golden golden = {.disk = make_disk(20, &image)};
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s.pages", dir, name);
    golden.list = fopen(path, "w");
    must(golden.list != NULL, "the list of pages");
    if (plain != NULL) {
        plain(&golden);
        image_take(golden.disk, &image);
    } else {
        edited(&golden, &image);
    }
    write_image(&image, dir, name);
    must(fclose(golden.list) == 0, "the list of pages");
    image_free(&image);
    sim_disk_destroy(golden.disk);
}

int
main(int argc, char **argv)
{
    must(argc == 2, "usage: make_golden DIR");
    make(argv[1], "clean", make_clean, NULL);
    make(argv[1], "killed", make_killed, NULL);
    make(argv[1], "levels", make_levels, NULL);
    make(argv[1], "merging", make_merging, NULL);
    make(argv[1], "torn", NULL, make_torn);
    make(argv[1], "coded", make_coded, NULL);
    return 0;
}
