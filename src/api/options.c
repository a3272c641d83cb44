/* SPDX-License-Identifier: Apache-2.0 */
/* Options as text: one table, from options.def, drives parsing, ranges and help. */
#include "api/options.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

struct option_row {
    size_t offset; /* in struct varve_options */
    const char *min;
    const char *max;
    varve_option_desc desc;
};

static const struct option_row rows[] = {
#define OPTION(name_, type_, initial_, min_, max_, live_, help_)                                                       \
    {offsetof(struct varve_options, name_), min_, max_, {#name_, type_, initial_, help_, live_}},
#include "api/options.def"
#undef OPTION
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static const char enum_prefix[] = "enum: ";

/* The value of an option of type "size|x" that is given as times the capacity: this bit, and millionths. */
#define TIMES          ((uint64_t)1 << 63)
#define TIMES_UNIT     1000000u
#define TIMES_DECIMALS 6
#define TIMES_MAX      1000u

/* Parse "8M", "1.5G" is not taken: whole numbers only. 0, or -1 when the text is no size or overflows. */
static int
parse_size(const char *text, bool suffix_allowed, uint64_t *out)
{
    static const char suffixes[] = "KMGTP";
    unsigned long long value;
    unsigned shift = 0;
    char *end;

    if (*text < '0' || *text > '9')
        return -1;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0)
        return -1;
    if (*end != '\0' && suffix_allowed) {
        const char *suffix = strchr(suffixes, *end >= 'a' ? *end - 'a' + 'A' : *end);

        if (suffix != NULL) {
            shift = 10 * (unsigned)(suffix - suffixes + 1);
            end++;
            if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0)
                end += strlen(end);
        }
    }
    if (*end != '\0' || (shift > 0 && value >> (64 - shift) != 0))
        return -1;
    *out = (uint64_t)value << shift;
    return 0;
}

/* "0.5x": digits, perhaps a point and at most TIMES_DECIMALS more, and an x. 0, or -1. */
static int
parse_times(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    int decimals = -1; /* behind the point; -1: there was none yet */

    if (*text < '0' || *text > '9')
        return -1;
    for (; (*text >= '0' && *text <= '9') || (*text == '.' && decimals < 0); text++) {
        if (*text == '.') {
            decimals = 0;
            continue;
        }
        value = value * 10 + (uint64_t)(*text - '0');
        if (decimals >= 0)
            decimals++;
        if (value > (uint64_t)TIMES_MAX * TIMES_UNIT || decimals > TIMES_DECIMALS)
            return -1;
    }
    if ((*text != 'x' && *text != 'X') || text[1] != '\0')
        return -1;
    for (decimals = decimals < 0 ? 0 : decimals; decimals < TIMES_DECIMALS; decimals++)
        value *= 10;
    if (value > (uint64_t)TIMES_MAX * TIMES_UNIT)
        return -1;
    *out = value == 0 ? 0 : TIMES | value;
    return 0;
}

static int
parse_bool(const char *text, uint64_t *out)
{
    static const char *const yes[] = {"1", "on", "true", "yes"};
    static const char *const no[] = {"0", "off", "false", "no"};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return -1;
}

/* The index-th word of "a|b|c"; its length, or 0 past the last. */
static size_t
enum_word(const char *words, uint64_t index, const char **out)
{
    while (index-- > 0) {
        words = strchr(words, '|');
        if (words == NULL)
            return 0;
        words++;
    }
    *out = words;
    return strcspn(words, "|");
}

static int
parse_enum(const char *words, const char *text, uint64_t *out)
{
    const char *word;
    size_t length;

    for (uint64_t i = 0; (length = enum_word(words, i, &word)) > 0; i++) {
        if (strlen(text) == length && strncmp(text, word, length) == 0) {
            *out = i;
            return 0;
        }
    }
    return -1;
}

static int
parse_value(const struct option_row *row, const char *text, uint64_t *out)
{
    if (strcmp(row->desc.type, "bool") == 0)
        return parse_bool(text, out);
    if (strncmp(row->desc.type, enum_prefix, strlen(enum_prefix)) == 0)
        return parse_enum(row->desc.type + strlen(enum_prefix), text, out);
    if (strcmp(row->desc.type, "size|x") == 0 && parse_times(text, out) == 0)
        return 0;
    if (parse_size(text, strcmp(row->desc.type, "int") != 0, out) != 0)
        return -1;
    if (strcmp(row->desc.type, "size|x") == 0 && (*out & TIMES) != 0)
        *out = TIMES - 1; /* out of range either way */
    return 0;
}

static uint64_t *
option_slot(varve_options *options, const struct option_row *row)
{
    return (uint64_t *)(void *)((char *)options + row->offset);
}

static uint64_t
option_value(const varve_options *options, const struct option_row *row)
{
    return *(const uint64_t *)(const void *)((const char *)options + row->offset);
}

static const struct option_row *
option_find(const char *name)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (strcmp(rows[i].desc.name, name) == 0)
            return &rows[i];
    }
    return NULL;
}

void
options_init(varve_options *options)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        int rc = parse_value(&rows[i], rows[i].desc.default_value, option_slot(options, &rows[i]));

        assert(rc == 0); /* the table is ours */
        (void)rc;
    }
}

uint64_t
options_rate(uint64_t value, uint64_t capacity)
{
    uint64_t times = value & ~TIMES, bytes;

    if ((value & TIMES) == 0)
        return value;
    if (__builtin_mul_overflow(capacity / TIMES_UNIT, times, &bytes))
        return UINT64_MAX;
    return bytes + capacity % TIMES_UNIT * times / TIMES_UNIT;
}

const char *
options_word(const varve_options *options, const char *name, char *buf, size_t buf_size)
{
    int rc = varve_options_get(options, name, buf, buf_size);

    assert(rc == VARVE_OK);
    (void)rc;
    return buf;
}

const varve_option_desc *
varve_option_describe(size_t index)
{
    return index < ROW_COUNT ? &rows[index].desc : NULL;
}

varve_options *
varve_options_create(void)
{
    varve_options *options = malloc(sizeof(*options)); /* no store, hence no env, exists yet */

    if (options != NULL)
        options_init(options);
    return options;
}

void
varve_options_destroy(varve_options *options)
{
    free(options);
}

/* Letters that two names have in common from both ends: cheap, and good enough to find a slip of the hand. */
static size_t
name_likeness(const char *a, const char *b)
{
    size_t head = 0, tail = 0, la = strlen(a), lb = strlen(b);
    size_t shorter = la < lb ? la : lb;

    while (head < shorter && a[head] == b[head])
        head++;
    while (tail < shorter - head && a[la - 1 - tail] == b[lb - 1 - tail])
        tail++;
    return 2 * (head + tail) * 100 / (la + lb + 1);
}

static int
unknown_option(const char *name, varve_error *err)
{
    size_t best = 0;

    for (size_t i = 1; i < ROW_COUNT; i++) {
        if (name_likeness(name, rows[i].desc.name) > name_likeness(name, rows[best].desc.name))
            best = i;
    }
    return error_set(err, VARVE_E_ARG, "no option '%.64s'; the nearest is '%s'", name, rows[best].desc.name);
}

int
varve_options_set(varve_options *options, const char *name, const char *value, varve_error *err)
{
    const struct option_row *row;
    uint64_t parsed, min = 0, max = 0, initial = 0;
    bool in_range;

    if (options == NULL || name == NULL || value == NULL)
        return error_set(err, VARVE_E_ARG, "varve_options_set: options, name and value must be given");
    row = option_find(name);
    if (row == NULL)
        return unknown_option(name, err);
    if (parse_value(row, value, &parsed) != 0)
        return error_set(err, VARVE_E_ARG, "option %s: '%.64s' is no %s", name, value, row->desc.type);
    if (strncmp(row->desc.type, "size", strlen("size")) == 0 || strcmp(row->desc.type, "int") == 0) {
        (void)parse_size(row->min, true, &min);
        (void)parse_size(row->max, true, &max);
        (void)parse_size(row->desc.default_value, true, &initial);
        in_range = parsed == initial || (parsed >= min && parsed <= max) || (parsed & TIMES) != 0;
        if (!in_range)
            return error_set(err, VARVE_E_ARG, "option %s: %.64s is out of range, it takes %s to %s", name, value,
                             row->min, row->max);
    }
    *option_slot(options, row) = parsed;
    return VARVE_OK;
}

/* Without zeros at the end. As snprintf(). */
static int
print_times(uint64_t times, char *buf, size_t buf_size)
{
    uint64_t decimals = times % TIMES_UNIT;
    int width = TIMES_DECIMALS;

    if (decimals == 0)
        return snprintf(buf, buf_size, "%" PRIu64 "x", times / TIMES_UNIT);
    for (; decimals % 10 == 0; width--)
        decimals /= 10;
    return snprintf(buf, buf_size, "%" PRIu64 ".%0*" PRIu64 "x", times / TIMES_UNIT, width, decimals);
}

int
varve_options_get(const varve_options *options, const char *name, char *buf, size_t buf_size)
{
    const struct option_row *row;
    int length;

    if (options == NULL || name == NULL || buf == NULL || (row = option_find(name)) == NULL)
        return VARVE_E_ARG;
    if (strcmp(row->desc.type, "bool") == 0) {
        length = snprintf(buf, buf_size, "%s", option_value(options, row) != 0 ? "on" : "off");
    } else if (strncmp(row->desc.type, enum_prefix, strlen(enum_prefix)) == 0) {
        const char *word = "";
        size_t word_length = enum_word(row->desc.type + strlen(enum_prefix), option_value(options, row), &word);

        length = snprintf(buf, buf_size, "%.*s", (int)word_length, word);
    } else if (strcmp(row->desc.type, "size|x") == 0 && (option_value(options, row) & TIMES) != 0) {
        length = print_times(option_value(options, row) & ~TIMES, buf, buf_size);
    } else {
        length = snprintf(buf, buf_size, "%" PRIu64, option_value(options, row));
    }
    return length < 0 || (size_t)length >= buf_size ? VARVE_E_ARG : VARVE_OK;
}
