/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the simulated disk as bytes in memory; see store_image.h. */
#include "store_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
must(bool condition)
{
    if (!condition)
        abort();
}

struct image_file *
image_find(struct image *image, const char *name)
{
    for (size_t i = 0; i < image->count; i++) {
        if (strcmp(image->files[i].name, name) == 0)
            return &image->files[i];
    }
    return NULL;
}

struct image_file *
image_add(struct image *image, const char *name)
{
    struct image_file *file = &image->files[image->count];

    if (image->count == IMAGE_FILES_MAX)
        return NULL;
    image->count++;
    *file = (struct image_file){.data = NULL};
    (void)snprintf(file->name, sizeof(file->name), "%s", name);
    return file;
}

void
image_remove(struct image *image, struct image_file *file)
{
    free(file->data);
    image->count--;
    memmove(file, file + 1, (size_t)(&image->files[image->count] - file) * sizeof(*file));
}

void
image_resize(struct image_file *file, size_t size)
{
    uint8_t *data = realloc(file->data, size == 0 ? 1 : size);

    must(data != NULL);
    if (size > file->size)
        memset(data + file->size, 0, size - file->size);
    file->data = data;
    file->size = size;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(((const struct image_file *)a)->name, ((const struct image_file *)b)->name);
}

void
image_take(const struct sim_disk *disk, struct image *out)
{
    out->count = 0;
    for (size_t i = 0; i < disk->current.count; i++) {
        const struct sim_dir_entry *entry = &disk->current.entries[i];
        struct image_file *file = image_add(out, entry->name);

        must(file != NULL);
        image_resize(file, entry->inode->current.size);
        if (file->size > 0)
            memcpy(file->data, entry->inode->current.data, file->size);
    }
    qsort(out->files, out->count, sizeof(out->files[0]), compare_names);
}

void
image_copy(const struct image *from, struct image *out)
{
    out->count = 0;
    for (size_t i = 0; i < from->count; i++) {
        struct image_file *file = image_add(out, from->files[i].name);

        image_resize(file, from->files[i].size);
        if (file->size > 0)
            memcpy(file->data, from->files[i].data, file->size);
    }
}

void
image_free(struct image *image)
{
    for (size_t i = 0; i < image->count; i++)
        free(image->files[i].data);
    image->count = 0;
}

static void
on_written(struct env_io *io)
{
    must(io->result == (int64_t)io->iov->iov_len);
}

void
image_put(const struct image *image, struct sim_disk *disk)
{
    struct env *env = sim_disk_env(disk);
    struct env_queue *queue;

    must(env->ops->queue_open(env, &queue) == 0);
    for (size_t i = 0; i < image->count; i++) {
        struct iovec iov = {image->files[i].data, image->files[i].size};
        struct env_io io = {.op = ENV_OP_WRITE, .iov_count = 1, .iov = &iov, .done = on_written};

        must(env->ops->open(env, image->files[i].name, ENV_OPEN_CREATE, &io.file) == 0);
        if (iov.iov_len > 0) {
            env->ops->submit(queue, &io);
            env->ops->wait(queue, 1);
        }
        env->ops->close(io.file);
    }
    env->ops->queue_close(queue);
}
