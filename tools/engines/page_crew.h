/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The items of a call, shared out to several threads: what gives peers that read and write one page at a time more than one operation in flight. Any
 * number of calls at once.
 */
#ifndef VARVE_TOOLS_ENGINES_PAGE_CREW_H
#define VARVE_TOOLS_ENGINES_PAGE_CREW_H

#include <stddef.h>

#include "codec/crew.h"

#define PAGE_CREW_HELPERS 16 /* and the caller's thread */

/* Runs each(arg, first, count) for parts of `chunk` items that together are [0, count); returns when all have run. */
void page_crew_run(struct crew *crew, size_t count, size_t chunk, void (*each)(void *arg, size_t first, size_t count),
                   void *arg);

#endif
