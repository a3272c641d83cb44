/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file CONTROL: the last decisions, as text for people, so that they outlive the process. It is written beside and renamed over the old one. Lines of earlier lives are
 * carried over as they are; nothing in it is ever acted on. docs/FORMAT.md, "Decisions".
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "format/format.h"
#include "store/store.h"

#define SAVE_INTERVAL_NS ((uint64_t)10 * 1000000000)
#define HEAD_BYTES       (sizeof(FORMAT_CONTROL_HEAD) - 1)
#define TIME_BYTES       32

/* The file is made from its end, so that what has no room are the oldest lines. */
struct text {
    char *bytes; /* FORMAT_CONTROL_BYTES */
    size_t begin;
    unsigned lines;
};

/* In front of what is there. false: there is no room, in bytes or in lines. */
static bool
put_in_front(struct text *text, const char *line, size_t bytes)
{
    if (text->lines == CONTROL_LOG_MAX || bytes > text->begin - HEAD_BYTES)
        return false;
    text->begin -= bytes;
    text->lines++;
    memcpy(text->bytes + text->begin, line, bytes);
    return true;
}

/* "2026-11-25T22:40:01Z  <line>\n". Returns its length. */
static size_t
print_line(const struct control_entry *entry, char line[TIME_BYTES + CONTROL_LINE_BYTES])
{
    time_t seconds = (time_t)(entry->realtime_ns / 1000000000);
    char decision[CONTROL_LINE_BYTES], when[TIME_BYTES] = "";
    struct tm utc;
    int length;

    if (gmtime_r(&seconds, &utc) != NULL)
        (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
    control_print(entry, decision);
    length = snprintf(line, TIME_BYTES + CONTROL_LINE_BYTES, "%s%s\n", when, decision);
    return length > 0 ? (size_t)length : 0;
}

/* The length of the last line of text[0, bytes), which ends with a newline. */
static size_t
last_line(const char *text, size_t bytes)
{
    size_t begin = bytes - 1;

    while (begin > 0 && text[begin - 1] != '\n')
        begin--;
    return bytes - begin;
}

static void
make_text(varve_store *store, struct text *text)
{
    struct control *control = &store->control;
    size_t earlier = control->earlier_bytes;
    bool fits = true;

    for (uint64_t i = control->logged; fits && i > 0 && control->logged - i < CONTROL_LOG_MAX; i--) {
        char line[TIME_BYTES + CONTROL_LINE_BYTES];
        struct control_entry entry;

        mutex_lock(&control->lock);
        entry = control->log[(i - 1) % CONTROL_LOG_MAX];
        mutex_unlock(&control->lock);
        fits = put_in_front(text, line, print_line(&entry, line));
    }
    while (fits && earlier > 0) {
        size_t bytes = last_line(control->earlier, earlier);

        earlier -= bytes;
        fits = put_in_front(text, control->earlier + earlier, bytes);
    }
    text->begin -= HEAD_BYTES;
    memcpy(text->bytes + text->begin, FORMAT_CONTROL_HEAD, HEAD_BYTES);
}

static int
replace_file(varve_store *store, const struct text *text)
{
    struct env *env = store->env;
    struct env_file *file;
    int rc;

    (void)env->ops->unlink(env, FORMAT_CONTROL_TMP_NAME); /* of an attempt that was interrupted */
    rc = env->ops->open(env, FORMAT_CONTROL_TMP_NAME, ENV_OPEN_CREATE, &file);
    if (rc < 0)
        return rc;
    rc = io_write(store->pool, file, text->bytes + text->begin, FORMAT_CONTROL_BYTES - text->begin, 0);
    if (rc == 0)
        rc = env->ops->sync(file);
    env->ops->close(file);
    if (rc == 0)
        rc = env->ops->rename(env, FORMAT_CONTROL_TMP_NAME, FORMAT_CONTROL_NAME);
    if (rc < 0)
        (void)env->ops->unlink(env, FORMAT_CONTROL_TMP_NAME);
    return rc;
}

int
control_save(varve_store *store, varve_error *err)
{
    struct control *control = &store->control;
    struct text text = {.begin = FORMAT_CONTROL_BYTES};
    int rc = -ENOMEM;

    control->saved_ns = store->env->ops->now_ns(store->env);
    text.bytes = store->env->ops->alloc(store->env, FORMAT_CONTROL_BYTES, IO_ALIGN_MAX);
    if (text.bytes != NULL) {
        make_text(store, &text);
        rc = replace_file(store, &text);
        env_free(store->env, text.bytes);
    }
    if (rc == -ENOSPC || rc == -EDQUOT)
        return VARVE_MISS;
    if (rc < 0)
        return error_os(err, rc, "write %s", FORMAT_CONTROL_NAME);
    control->saved = control->logged;
    return VARVE_OK;
}

bool
control_save_due(varve_store *store)
{
    const struct control *control = &store->control;

    return control->saved != control->logged &&
           (control->saved_ns == 0 || store->env->ops->now_ns(store->env) - control->saved_ns >= SAVE_INTERVAL_NS);
}

/* The head, and then whole lines of printable ASCII. */
static bool
is_sound(const char *text, size_t bytes)
{
    if (bytes < HEAD_BYTES || memcmp(text, FORMAT_CONTROL_HEAD, HEAD_BYTES) != 0 || text[bytes - 1] != '\n')
        return false;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '\n' && (text[i] < ' ' || text[i] > '~'))
            return false;
    }
    return true;
}

/* The file; NULL: it is not there, or cannot be read. Its length is not trusted: a file that is longer than it may be goes, and so takes no room. */
static char *
read_file(varve_store *store, size_t *bytes)
{
    struct env *env = store->env;
    struct env_file *file;
    char *text = NULL;
    uint64_t size = 0;

    if (env->ops->open(env, FORMAT_CONTROL_NAME, ENV_OPEN_READ, &file) < 0)
        return NULL;
    if (env->ops->size(file, &size) < 0)
        size = 0;
    if (size > 0 && size <= FORMAT_CONTROL_BYTES)
        text = env->ops->alloc(env, FORMAT_CONTROL_BYTES, IO_ALIGN_MAX);
    if (text != NULL && io_read(store->pool, file, text, (size_t)size, 0) < 0) {
        env_free(env, text);
        text = NULL;
    }
    env->ops->close(file);
    if (size > FORMAT_CONTROL_BYTES)
        (void)env->ops->unlink(env, FORMAT_CONTROL_NAME);
    *bytes = (size_t)size;
    return text;
}

void
control_load(varve_store *store)
{
    struct control *control = &store->control;
    size_t bytes;
    char *text;

    (void)store->env->ops->unlink(store->env, FORMAT_CONTROL_TMP_NAME);
    text = read_file(store, &bytes);
    if (text == NULL)
        return;
    if (!is_sound(text, bytes)) {
        env_free(store->env, text);
        return;
    }
    control->earlier_bytes = bytes - HEAD_BYTES;
    memmove(text, text + HEAD_BYTES, control->earlier_bytes);
    control->earlier = text;
}
