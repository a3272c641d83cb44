/* SPDX-License-Identifier: Apache-2.0 */
/* The engines there are, for the registry alone; one file each. Those of other projects exist where the build found their library. */
#ifndef VARVE_TOOLS_ENGINES_ENGINES_H
#define VARVE_TOOLS_ENGINES_ENGINES_H

#include "engine.h"

extern const struct engine_ops engine_varve;
extern const struct engine_ops engine_varve_threads;
extern const struct engine_ops engine_file;
extern const struct engine_ops engine_file_threads;
extern const struct engine_ops engine_rocksdb;
extern const struct engine_ops engine_rocksdb_inline;
extern const struct engine_ops engine_lmdb;
extern const struct engine_ops engine_hashlog;

#endif
