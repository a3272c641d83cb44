/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that look at the whole store: check, and what the controller makes of it. A peer has the owner do them. */
#include <math.h>

#include "api/arguments.h"
#include "base/error.h"
#include "peer/peer_reports.h"
#include "peer/role.h"
#include "store/calls.h"

#define MEASURE_ROUNDS      50 /* windows, so that nothing is left of what was assumed before: 0.8^50 */
#define MEASURE_SECONDS_MAX 60

int
varve_check(varve_store *store, unsigned flags, void (*problem)(void *arg, const char *text),
            void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, varve_check_report *report,
            varve_error *err)
{
    struct check_listener listener = {.problem = problem, .progress = progress, .arg = arg};
    struct role_retry retry = {0};
    int64_t rc = arguments_check_store(store, report != NULL && report->struct_size >= sizeof(*report),
                                       "varve_check: a store and VARVE_CHECK_REPORT_INIT", err);

    if (rc != VARVE_OK)
        return (int)rc;
    if ((flags & ~(unsigned)VARVE_CHECK_DEEP) != 0)
        return error_set(err, VARVE_E_ARG, "unknown check flags 0x%x", flags);
    do { /* where the owner is lost it begins anew */
        *report = (varve_check_report){.struct_size = report->struct_size};
        if (role_owns(store, &retry))
            return store_check(store, flags, &listener, report, err);
        rc = peer_check(store, flags, &listener, report, err);
    } while (role_again(store, NULL, &rc, &retry));
    return arguments_fail(rc, err);
}

size_t
varve_control_log(varve_store *store, void (*line)(void *arg, const char *text), void *arg)
{
    struct role_retry retry = {0};
    int64_t rc;

    if (line == NULL || arguments_check_store(store, true, "a store", NULL) != VARVE_OK)
        return 0;
    do {
        if (role_owns(store, &retry))
            return store_control_log(store, line, arg);
        rc = peer_control_log(store, line, arg);
    } while (role_again(store, NULL, &rc, &retry));
    return rc < 0 ? 0 : (size_t)rc;
}

static bool
mix_is_good(const varve_tune_mix *mix)
{
    return mix->struct_size >= sizeof(*mix) && isfinite(mix->pages_put) && isfinite(mix->walks) &&
           isfinite(mix->misses) && isfinite(mix->walk_pages) && isfinite(mix->walk_turns) && mix->pages_put >= 0 &&
           mix->walks >= 0 && mix->misses >= 0 && mix->walk_pages >= 0 && mix->walk_turns >= 1;
}

int64_t
varve_tune(varve_store *store, const varve_tune_mix *mix, varve_tune_row *rows, size_t room, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_store(store, rows != NULL || room == 0, "varve_tune: a store, and rows,", err);

    if (rc != VARVE_OK)
        return rc;
    if (mix != NULL && !mix_is_good(mix))
        return error_set(err, VARVE_E_ARG, "varve_tune_mix: use VARVE_TUNE_MIX_INIT; rates are at least 0, turns 1");
    do {
        if (role_owns(store, &retry))
            return store_tune(store, mix, rows, room, err);
        rc = peer_tune(store, mix, rows, room, err);
    } while (role_again(store, NULL, &rc, &retry));
    return rc < 0 ? arguments_fail(rc, err) : rc;
}

static int
measure_round(varve_store *store, uint64_t round_ns, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc;

    do {
        if (role_owns(store, &retry))
            return store_tune_measure(store, round_ns, err);
        rc = peer_tune_measure(store, round_ns, err);
    } while (role_again(store, NULL, &rc, &retry));
    return arguments_fail(rc, err);
}

int
varve_tune_measure(varve_store *store, double seconds, varve_error *err)
{
    int rc = arguments_check_store(store, true, "varve_tune_measure: a store", err);

    if (rc == VARVE_OK && !(seconds > 0 && seconds <= MEASURE_SECONDS_MAX))
        rc = error_set(err, VARVE_E_ARG, "varve_tune_measure: 0 to %d seconds", MEASURE_SECONDS_MAX);
    for (int round = 0; round < MEASURE_ROUNDS && rc == VARVE_OK; round++)
        rc = measure_round(store, (uint64_t)(seconds * 1e9 / MEASURE_ROUNDS), err);
    return rc;
}
