/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling the caller's varve_error. Rule: the function that first sees a failure fills it; callers above only
 * pass the code on ("first error wins"). Every helper takes err == NULL.
 */
#ifndef VARVE_BASE_ERROR_H
#define VARVE_BASE_ERROR_H

#include "varve.h"

/* Fill *err with code and a formatted message; returns code, so that failures read `return error_set(...)`. */
int error_set(varve_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * The same for a failed call of the operating system: rc is a negative errno, from which the code follows (ENOSPC, EDQUOT =>
 * NOSPC, ENOMEM => NOMEM, EROFS, EACCES, EPERM => READONLY, else IO). The message gets ": <strerror>" appended.
 */
int error_os(varve_error *err, int rc, const char *format, ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__ /* looks into one file at a time: tell it that what comes back is an error */
#define error_set(err, code, ...) (error_set(err, code, __VA_ARGS__), (code) < 0 ? (code) : VARVE_E_IO)
#define error_os(err, rc, ...)    (error_os(err, rc, __VA_ARGS__), VARVE_E_IO)
#endif

/*
 * At the end of a long sequence: make sure that *err speaks of the failure rc that is returned (a step that ran out of memory may not have filled
 * it, and one that was recovered from may have). Returns rc.
 */
int error_settle(varve_error *err, int rc);

#endif
