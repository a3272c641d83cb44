/* SPDX-License-Identifier: Apache-2.0 */
/* A mix of work as it is written on the command line of varve tune: "put=20000,walk=500". */
#ifndef VARVE_TOOLS_TUNE_MIX_H
#define VARVE_TOOLS_TUNE_MIX_H

#include <stdbool.h>

#include "varve.h"

struct tune_mix {
    varve_tune_mix mix;
    double payload_s; /* 0: not given */
};

/* false: it is wrong, or NULL, and that was said. Pages and turns that are not given are 0. */
bool tune_mix_parse(struct tune_mix *mix, const char *text);

/* Pages and turns that were not given become those of the branches of the store. VARVE_OK or a code. */
int tune_mix_complete(struct tune_mix *mix, varve_store *store, varve_error *err);

#endif
