/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_image.h - the files of a store on the simulated disk, as bytes in memory: to keep, to edit, and to put on another disk. For tests: what
 * fails, aborts.
 */
#ifndef VARVE_GOLDEN_STORE_IMAGE_H
#define VARVE_GOLDEN_STORE_IMAGE_H

#include "../sim/sim_disk.h"

#define IMAGE_FILES_MAX 48

struct image_file {
    char name[SIM_NAME_MAX];
    uint8_t *data;
    size_t size;
};

struct image {
    struct image_file files[IMAGE_FILES_MAX]; /* sorted by name */
    size_t count;
};

/* Copy what reads of the disk see now. *out is the caller's: image_free(). */
void image_take(const struct sim_disk *disk, struct image *out);
void image_copy(const struct image *from, struct image *out);
void image_free(struct image *image);
/* Make the files on an empty disk, unsynced. */
void image_put(const struct image *image, struct sim_disk *disk);

/* NULL when there is none, or no room for one more. */
struct image_file *image_find(struct image *image, const char *name);
struct image_file *image_add(struct image *image, const char *name);
void image_remove(struct image *image, struct image_file *file);
/* A larger file gets zeros. */
void image_resize(struct image_file *file, size_t size);

#endif
