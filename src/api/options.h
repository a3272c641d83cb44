/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a store, parsed and in range. Made from options.def, which says what each means. */
#ifndef VARVE_API_OPTIONS_H
#define VARVE_API_OPTIONS_H

#include <stdint.h>

#include "varve.h"

struct varve_options {
#define OPTION(name, type, initial, min, max, live, help) uint64_t name;
#include "api/options.def"
#undef OPTION
};

void options_init(varve_options *options);

/* Bytes, of the value of an option of type "size|x". */
uint64_t options_rate(uint64_t value, uint64_t capacity);

/* The chosen word of an enum option ("auto", ...), for modules that take it as text. NUL-terminated in buf. */
const char *options_word(const varve_options *options, const char *name, char *buf, size_t buf_size);

#endif
