/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sampler sleeps at least 20 times as long as a look at the directory takes, so that a large directory costs 5 %
 * of a core at most.
 */
#include "disk_usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "cli.h"

#define SAMPLE_MS 10

struct disk_sampler {
    const char *path;
    pthread_t thread;
    struct mutex lock;
    struct cond wake;
    bool stop;    /* lock */
    uint64_t max; /* the thread's, until it has been joined */
};

uint64_t
disk_usage(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    uint64_t bytes = 0;

    if (directory == NULL)
        return 0;
    while ((entry = readdir(directory)) != NULL) {
        struct stat status;

        /* A file may vanish between the two calls: it then holds nothing. */
        if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode))
            bytes += (uint64_t)status.st_blocks * 512;
    }
    (void)closedir(directory);
    return bytes;
}

static void *
sampler_run(void *arg)
{
    struct disk_sampler *sampler = arg;
    bool stop = false;

    while (!stop) {
        uint64_t begin = cli_now_ns();
        uint64_t bytes = disk_usage(sampler->path);
        uint64_t pause_ms = 20 * (cli_now_ns() - begin) / 1000000;

        if (bytes > sampler->max)
            sampler->max = bytes;
        mutex_lock(&sampler->lock);
        if (!sampler->stop)
            cond_wait_ms(&sampler->wake, &sampler->lock, pause_ms > SAMPLE_MS ? pause_ms : SAMPLE_MS);
        stop = sampler->stop;
        mutex_unlock(&sampler->lock);
    }
    return NULL;
}

struct disk_sampler *
disk_sampler_start(const char *path)
{
    struct disk_sampler *sampler = calloc(1, sizeof(*sampler));

    if (sampler == NULL)
        return NULL;
    sampler->path = path;
    mutex_init(&sampler->lock);
    cond_init(&sampler->wake);
    if (pthread_create(&sampler->thread, NULL, sampler_run, sampler) != 0) {
        cond_deinit(&sampler->wake);
        mutex_deinit(&sampler->lock);
        free(sampler);
        return NULL;
    }
    return sampler;
}

uint64_t
disk_sampler_stop(struct disk_sampler *sampler)
{
    uint64_t now = disk_usage(sampler->path);
    uint64_t max;

    mutex_lock(&sampler->lock);
    sampler->stop = true;
    cond_signal(&sampler->wake);
    mutex_unlock(&sampler->lock);
    lock_must(pthread_join(sampler->thread, NULL));
    max = sampler->max > now ? sampler->max : now;
    cond_deinit(&sampler->wake);
    mutex_deinit(&sampler->lock);
    free(sampler);
    return max;
}
