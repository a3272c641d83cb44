/* SPDX-License-Identifier: Apache-2.0 */
/* Whole operations on files of the simulated disk, for its tests. What fails, fails the test. */
#ifndef VARVE_SIM_TEST_FILES_H
#define VARVE_SIM_TEST_FILES_H

#include "sim_disk.h"

/* Nothing goes wrong but at a crash. */
extern const struct sim_disk_settings sim_test_plain;

/* The result of one operation on a queue of its own. */
int64_t sim_test_transfer(struct env_file *file, enum env_op op, void *buf, size_t size, uint64_t offset);
struct env_file *sim_test_open(struct sim_disk *disk, const char *name, unsigned flags);
/* A file of `size` bytes of `fill`, unsynced. */
struct env_file *sim_test_make(struct sim_disk *disk, const char *name, uint8_t fill, size_t size);
void sim_test_overwrite(struct env_file *file, uint8_t fill, size_t size, uint64_t offset);
void sim_test_crash(struct sim_disk *disk, enum sim_crash_mode mode, uint64_t seed);
/* Length of the file, or -1 when it is not there; its bytes in data. */
int64_t sim_test_read(struct sim_disk *disk, const char *name, uint8_t *data, size_t room);

#endif
