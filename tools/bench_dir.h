/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a bench is the user's: the bench works in sub-directories whose names begin with BENCH_PREFIX, and removes nothing else.
 */
#ifndef VARVE_TOOLS_BENCH_DIR_H
#define VARVE_TOOLS_BENCH_DIR_H

#include <stdbool.h>

#define BENCH_PREFIX "varve-bench-"

/*
 * Look through the directory, and with `remove` remove what a bench left there. The name of anything else is written to `other` ("" when there is
 * none). 0 or -errno.
 */
int bench_dir_clean(const char *path, bool remove, char other[256]);

#endif
