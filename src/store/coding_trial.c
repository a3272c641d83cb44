/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What coding would do to gets, tried out before there were any of coded pages: an extent that was written is read while a coded part of a page is decoded as
 * often as such a read would ask for. That shows what no sum of speeds does: devices need processors, too.
 */
#include "base/error.h"
#include "store/coding.h"
#include "store/store.h"

#define READ_BYTES_MAX ((uint64_t)16 << 20)
#define READS          16
#define PART_BYTES_MAX ((uint64_t)1 << 20) /* of the page */
#define LANES_MAX      8
#define ROUNDS         3

struct lane {
    struct crew_task task; /* first */
    struct trial *trial;
    struct lane *next; /* idle */
    uint8_t *out;      /* the trial's part_bytes */
};

struct trial {
    varve_store *store;
    struct env_queue *queue;
    struct env_file *file;
    uint64_t offset, bytes; /* to read */
    uint64_t part_bytes, stored_bytes;
    uint8_t *memory; /* for all of: what is read, the coded part, and the lanes' */
    uint8_t *stored;
    struct lane lanes[LANES_MAX]; /* the first is the caller's */
    struct lane *idle;
    struct io reads[READS];
    struct iovec read_iov[READS];
    struct iovec part_iov[VARVE_PAGE_IOV_MAX];
};

static void
submit_reads(struct trial *trial)
{
    uint64_t piece = log_pad((trial->bytes + READS - 1) / READS, 12);
    size_t i = 0;

    for (uint64_t at = 0; at < trial->bytes; at += piece, i++) {
        uint64_t left = trial->bytes - at;

        trial->read_iov[i] = (struct iovec){trial->memory + at, (size_t)(left < piece ? left : piece)};
        trial->reads[i] = (struct io){.op = ENV_OP_READ,
                                      .file = trial->file,
                                      .iov = &trial->read_iov[i],
                                      .iov_count = 1,
                                      .offset = trial->offset + at};
        io_submit(trial->queue, &trial->reads[i]);
    }
    trial->store->env->ops->wait(trial->queue, 0);
}

/* Those of the last round: a device that fails once will be measured by gets. */
static bool
reads_are_good(const struct trial *trial)
{
    bool good = true;

    for (size_t i = 0; i < READS; i++)
        good = good && trial->reads[i].result == 0;
    return good;
}

/* Errors show as a part that was decoded in no time: what comes of that is set right by the first gets. */
static void
lane_decode(struct crew_task *task)
{
    struct lane *lane = (struct lane *)task;
    struct trial *trial = lane->trial;
    struct iovec out = {lane->out, (size_t)trial->part_bytes};
    struct codec *codec;

    if (codec_pool_acquire(&trial->store->coding.codecs, &codec) != VARVE_OK)
        return;
    (void)codec_decode(codec, trial->stored, trial->stored_bytes, &out, 1);
    codec_pool_release(&trial->store->coding.codecs, codec);
}

/* Decode the part `count` times, on as many threads as a get would have. */
static void
decode_parts(struct trial *trial, uint64_t count)
{
    struct crew *crew = &trial->store->coding.crew;
    struct crew_group group = {0};
    struct crew_task *task;

    for (uint64_t i = 0; i < count; i++) {
        struct lane *lane = trial->idle;

        if (lane != NULL && crew_offer(crew, &group, &lane->task)) {
            trial->idle = lane->next;
        } else {
            lane_decode(&trial->lanes[0].task);
            trial->store->env->ops->wait(trial->queue, 0);
        }
        while ((task = crew_collect(crew, &group)) != NULL) {
            ((struct lane *)task)->next = trial->idle;
            trial->idle = (struct lane *)task;
        }
    }
    while (crew_wait(crew, &group) != NULL)
        ;
}

/* Read, and decode `count` parts meanwhile. */
static uint64_t
timed_read(struct trial *trial, uint64_t count)
{
    struct env *env = trial->store->env;
    uint64_t began_ns = env->ops->now_ns(env);

    submit_reads(trial);
    decode_parts(trial, count);
    io_drain(trial->queue);
    return env->ops->now_ns(env) - began_ns;
}

/* The worst of several counts: it is wrong to code where that costs bandwidth, and merely a pity not to. */
static void
measure(struct trial *trial)
{
    varve_store *store = trial->store;
    struct env *env = store->env;
    uint64_t count = (trial->bytes + trial->stored_bytes - 1) / trial->stored_bytes, began_ns;
    uint64_t worst_ns = 0;

    lane_decode(&trial->lanes[0].task); /* warms up */
    began_ns = env->ops->now_ns(env);
    lane_decode(&trial->lanes[0].task);
    coding_measured(&store->coding, trial->part_bytes, trial->stored_bytes, env->ops->now_ns(env) - began_ns);

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t round_ns = timed_read(trial, count);

        worst_ns = round_ns > worst_ns ? round_ns : worst_ns;
    }
    if (reads_are_good(trial))
        store_average(&store->coding.coded_bandwidth, bytes_per_second(count * trial->part_bytes, worst_ns));
}

/* The beginning of the page is the part; code it, and share out the memory. False: there is not enough, or nothing to code. */
static bool
prepare(struct trial *trial, enum varve_element element, const varve_page *page)
{
    varve_store *store = trial->store;
    struct env *env = store->env;
    uint32_t lanes = store->coding.threads < LANES_MAX ? store->coding.threads : LANES_MAX, iov_count = 0;
    struct codec *codec;
    uint64_t bytes;
    int rc;

    for (; iov_count < page->iov_count && trial->part_bytes < PART_BYTES_MAX; iov_count++) {
        struct iovec *iov = &trial->part_iov[iov_count];

        *iov = page->iov[iov_count];
        if (iov->iov_len > PART_BYTES_MAX - trial->part_bytes)
            iov->iov_len = (size_t)(PART_BYTES_MAX - trial->part_bytes);
        trial->part_bytes += iov->iov_len;
    }
    trial->stored_bytes = codec_bound(trial->part_bytes);
    bytes = trial->bytes + trial->stored_bytes + lanes * trial->part_bytes;
    trial->memory = env->ops->alloc(env, (size_t)bytes, IO_ALIGN_MAX);
    if (trial->memory == NULL || codec_pool_acquire(&store->coding.codecs, &codec) != VARVE_OK)
        return false;
    trial->stored = trial->memory + trial->bytes;
    for (uint32_t i = 0; i < lanes; i++) {
        struct lane *lane = &trial->lanes[i];

        *lane = (struct lane){.task.run = lane_decode, .trial = trial};
        lane->out = trial->stored + trial->stored_bytes + i * trial->part_bytes;
        if (i > 0) {
            lane->next = trial->idle;
            trial->idle = lane;
        }
    }
    rc = codec_encode(codec, element, trial->part_iov, iov_count, trial->stored, &trial->stored_bytes);
    codec_pool_release(&store->coding.codecs, codec);
    return rc >= 0;
}

void
coding_trial(varve_store *store, enum varve_element element, const varve_page *page,
             const struct written_extent *extent, const struct coding_files *files)
{
    struct trial *trial = env_zalloc(store->env, sizeof(*trial));
    void *held;

    if (trial == NULL)
        return;
    trial->store = store;
    trial->offset = extent->offset;
    trial->bytes = extent->bytes < READ_BYTES_MAX ? extent->bytes : READ_BYTES_MAX;
    held = prepare(trial, element, page) ? files->open(files->arg, extent->segment, &trial->file) : NULL;
    if (held != NULL) {
        if (io_queue_acquire(store->pool, &trial->queue) == 0) {
            measure(trial);
            io_queue_release(store->pool, trial->queue);
        }
        files->close(files->arg, held);
    }
    env_free(store->env, trial->memory);
    env_free(store->env, trial);
}
