/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk's env, with a preemption point before and after each call that can be told from outside, and a device that works meanwhile.
 * A sync saves what was written before it began and returns later: what is written in between it does not cover.
 */

#include "log/log.h"
#include "sim_internal.h"
#include "threads.h"

static struct run *attached;

void
threads_point(struct env *env)
{
    if (sim_rng_chance(&attached->disk->rng, attached->config.device_per_mille))
        sim_disk_step(attached->disk);
    sched_point();
    if (attached->on_point != NULL)
        attached->on_point(attached, env);
}

static int
threads_open(struct env *env, const char *name, unsigned flags, struct env_file **out)
{
    threads_point(env);
    return sim_env_ops.open(env, name, flags, out);
}

static void
threads_close(struct env_file *file)
{
    threads_point(file->env);
    sim_env_ops.close(file);
}

static int
threads_size(struct env_file *file, uint64_t *size)
{
    threads_point(file->env);
    return sim_env_ops.size(file, size);
}

static int
threads_preallocate(struct env_file *file, uint64_t size)
{
    threads_point(file->env);
    return sim_env_ops.preallocate(file, size);
}

static int
threads_truncate(struct env_file *file, uint64_t size)
{
    threads_point(file->env);
    return sim_env_ops.truncate(file, size);
}

static int
threads_file_sync(struct env_file *file)
{
    int rc;

    threads_point(file->env);
    rc = sim_env_ops.sync(file);
    (void)sched_idle();
    return rc;
}

static int
threads_rename(struct env *env, const char *from, const char *to)
{
    int rc;

    threads_point(env);
    rc = sim_env_ops.rename(env, from, to);
    threads_point(env);
    return rc;
}

static int
threads_unlink(struct env *env, const char *name)
{
    int rc;

    threads_point(env);
    rc = sim_env_ops.unlink(env, name);
    threads_point(env);
    return rc;
}

/* From here on the pages of a segment are misses, whatever becomes of its file. (Linked in place of the log's.) */
bool __real_log_drop_begin(struct log *log, struct segment *segment);
bool __wrap_log_drop_begin(struct log *log, struct segment *segment);

bool
__wrap_log_drop_begin(struct log *log, struct segment *segment)
{
    attached->segment_drops++;
    return __real_log_drop_begin(log, segment);
}

static int
threads_sync_dir(struct env *env)
{
    int rc;

    threads_point(env);
    rc = sim_env_ops.sync_dir(env);
    (void)sched_idle();
    return rc;
}

static int
threads_queue_open(struct env *env, struct env_queue **out)
{
    threads_point(env);
    return sim_env_ops.queue_open(env, out);
}

static void
threads_submit(struct env_queue *queue, struct env_io *io)
{
    sim_env_ops.submit(queue, io);
    threads_point(queue->env);
}

static void
threads_wait(struct env_queue *queue, uint32_t at_least)
{
    threads_point(queue->env);
    sim_env_ops.wait(queue, at_least);
}

static uint64_t
threads_now_ns(struct env *env)
{
    threads_point(env);
    return sim_env_ops.now_ns(env);
}

static uint64_t
threads_realtime_ns(struct env *env)
{
    threads_point(env);
    return sim_env_ops.realtime_ns(env);
}

static void *
threads_alloc(struct env *env, size_t size, size_t align)
{
    threads_point(env);
    return sim_env_ops.alloc(env, size, align);
}

static void
threads_free(struct env *env, void *ptr)
{
    threads_point(env);
    sim_env_ops.free(env, ptr);
}

void
threads_env_attach(struct run *run)
{
    static struct env_ops ops;

    attached = run;
    ops = sim_env_ops;
    ops.open = threads_open;
    ops.close = threads_close;
    ops.size = threads_size;
    ops.preallocate = threads_preallocate;
    ops.truncate = threads_truncate;
    ops.sync = threads_file_sync;
    ops.rename = threads_rename;
    ops.unlink = threads_unlink;
    ops.sync_dir = threads_sync_dir;
    ops.queue_open = threads_queue_open;
    ops.submit = threads_submit;
    ops.wait = threads_wait;
    ops.now_ns = threads_now_ns;
    ops.realtime_ns = threads_realtime_ns;
    ops.alloc = threads_alloc;
    ops.free = threads_free;
    run->disk->view.env.ops = &ops;
    run->disk->idle = sched_idle;
}
