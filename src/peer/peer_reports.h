/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_reports.h - what a peer has the owner do with the whole store. What calls return beside their own is as in peer.h.
 */
#ifndef VARVE_PEER_PEER_REPORTS_H
#define VARVE_PEER_PEER_REPORTS_H

#include "peer/peer.h"
#include "store/calls.h"

/* An iteration, on a connection of its own until it is closed. An owner that is lost meanwhile ends it with VARVE_E_TIMEOUT. One thread at a time. */
struct peer_iter;
int peer_iter_open(varve_store *store, uint32_t ns_id, enum varve_iter_kind kind, struct peer_iter **out,
                   varve_error *err);
int peer_iter_next(struct peer_iter *iter, varve_item *item, varve_error *err);
void peer_iter_close(struct peer_iter *iter);

int peer_check(varve_store *store, unsigned flags, const struct check_listener *listener, varve_check_report *report,
               varve_error *err);
int64_t peer_control_log(varve_store *store, void (*line)(void *arg, const char *text), void *arg);
int64_t peer_tune(varve_store *store, const varve_tune_mix *mix, varve_tune_row *rows, size_t room, varve_error *err);
int peer_tune_measure(varve_store *store, uint64_t round_ns, varve_error *err);

#endif
