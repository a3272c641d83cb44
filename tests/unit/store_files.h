/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_files.h - files of a store on the simulated disk, read, edited and written back: damage with right checksums, and manifests
 * that say anything. What fails here, fails the test.
 */
#ifndef VARVE_TESTS_STORE_FILES_H
#define VARVE_TESTS_STORE_FILES_H

#include "../sim/sim_test_files.h"
#include "format/manifest_format.h"

/* A file's bytes, replaced or made. */
void store_file_write(struct sim_disk *disk, const char *name, const void *data, size_t size);
/* A part of a file overwritten, durably. */
void store_file_patch(struct sim_disk *disk, const char *name, uint64_t at, const void *data, size_t size);
void store_file_cut(struct sim_disk *disk, const char *name, uint64_t size);
bool store_file_exists(struct sim_disk *disk, const char *name);
/* The first name, in the order of names, that ends with `suffix`. name: FORMAT_NAME_MAX bytes. False: there is none. */
bool store_file_find(struct sim_disk *disk, const char *suffix, char *name);

/* Header and one record of items: a manifest; returns its length. buf has room. */
size_t store_manifest_make(const struct manifest_header *header, const struct manifest_item *items, size_t count,
                           uint8_t *buf);

/* Fail the operations in `ops` on names that match `glob` with -error, from the one after `skip` on, `count` times. */
void store_fault(struct sim_disk *disk, unsigned ops, const char *glob, int error, uint64_t skip, uint64_t count);

/* The disk and every file and memory of the process are as they were before it. */
void store_disk_destroy(struct sim_disk *disk);

#endif
