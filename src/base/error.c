/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#undef error_set /* macros for static analysis only */
#undef error_os

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int
error_set(varve_error *err, int code, const char *format, ...)
{
    va_list args;

    assert(code < 0);
    if (err == NULL)
        return code;
    err->code = code;
    err->os_errno = 0;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    return code;
}

static int
code_of_errno(int os_errno)
{
    switch (os_errno) {
    case ENOSPC:
    case EDQUOT:
        return VARVE_E_NOSPC;
    case ENOMEM:
        return VARVE_E_NOMEM;
    case EROFS:
    case EACCES:
    case EPERM:
        return VARVE_E_READONLY;
    default:
        return VARVE_E_IO;
    }
}

int
error_os(varve_error *err, int rc, const char *format, ...)
{
    int code = code_of_errno(-rc);
    char reason[64];
    va_list args;
    int used;

    assert(rc < 0);
    if (err == NULL)
        return code;
    err->code = code;
    err->os_errno = -rc;
    va_start(args, format);
    used = vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof(err->message))
        (void)snprintf(err->message + used, sizeof(err->message) - (size_t)used, ": %s",
                       strerror_r(-rc, reason, sizeof(reason)));
    return code;
}

int
error_settle(varve_error *err, int rc)
{
    if (rc < 0 && err != NULL && err->code != rc)
        return error_set(err, rc, "%s", varve_strerror(rc));
    return rc;
}
