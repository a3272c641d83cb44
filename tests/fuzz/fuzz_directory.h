/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_directory.h - edits of the files of a store, from arbitrary bytes; and checksums put right after them. */
#ifndef VARVE_FUZZ_FUZZ_DIRECTORY_H
#define VARVE_FUZZ_FUZZ_DIRECTORY_H

#include "../golden/golden_pages.h"
#include "../golden/store_image.h"

#define DIRECTORY_EDIT_BYTES 40 /* of an edit that directory_edit_example() makes, at most */

/* Apply edits until the bytes end. Every input is a valid list of edits. */
void directory_edit(struct image *image, const uint8_t *data, size_t size);
/* An edit that changes something; returns its length. */
size_t directory_edit_example(struct sim_rng *rng, uint8_t *out);
/* Make the checksum of every structure hold that can be found by its magic. Pages keep theirs. */
void directory_fix_sums(struct image *image);

#endif
