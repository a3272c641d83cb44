/* SPDX-License-Identifier: Apache-2.0 */
/*
 * threads_model.h - what must be true of the presence of pages when calls overlap.
 *
 * Time is a counter that every begin and end of a call advances. A put is *clean* when nothing that takes its page away (removal, clear) was under
 * way between its begin and its end: from its end until such a call begins, the page must be found. A page must not be found when each
 * put of it had ended before a removal or clear began that was acknowledged before the observation began. Between the two everything is
 * allowed. Segments that the store drops for space excuse absence: the model keeps how many there were when the put began. Who was
 * seen, or not seen, stays so until a call that may change it.
 */
#ifndef VARVE_SIM_THREADS_MODEL_H
#define VARVE_SIM_THREADS_MODEL_H

#include "threads.h"

#define MODEL_NEVER UINT64_MAX

/* A page is there for certain. */
struct certainty {
    uint64_t since; /* MODEL_NEVER: it is not */
    uint64_t drops; /* unless more segments than these were dropped */
};

struct model_page {
    struct certainty seen;     /* now */
    struct certainty acked;    /* now, and put calls said so: what the next sync makes durable */
    struct certainty durable;  /* after a power failure */
    uint32_t puts, destroyers; /* under way */
    uint64_t last_put;         /* end of the last one */
    uint64_t destroyed;        /* end of the last removal or clear, acknowledged or not */
    /* Puts that ended before this time are gone: */
    uint64_t gone;               /* now */
    uint64_t killed, killed_end; /* after a kill; and when the call that did it ended */
    uint64_t killed_durable;     /* after a power failure */
};

struct model {
    uint64_t now;
    uint64_t deaths;     /* of processes */
    uint64_t destroyers; /* removals and clears begun so far */
    uint32_t destroying; /* under way */
    uint32_t namespaces, pages;
    struct model_page *table; /* namespace * pages + page */
};

/* A call that observes pages: what must be known of the moment at which it began. */
struct model_look {
    uint64_t begin;
    uint64_t drops, deaths;
    uint32_t ns;
    uint64_t *gone, *killed; /* of each page it may see, as numbered by the caller */
};

struct model *model_create(uint32_t namespaces, uint32_t pages);
void model_destroy(struct model *model);
struct model_page *model_page(struct model *model, uint32_t ns, uint32_t page);
uint64_t model_tick(struct model *model);

/* The begin of a put; give the result to model_put_end(). */
uint64_t model_put_begin(struct model *model, uint32_t ns, const uint32_t *pages, size_t count);
void model_put_end(struct model *model, uint32_t ns, uint32_t page, uint64_t begin, uint64_t drops, bool stored,
                   bool synced);

/* Removal of pages. */
uint64_t model_remove_begin(struct model *model, uint32_t ns, const uint32_t *pages, size_t count);
void model_remove_end(struct model *model, uint32_t ns, const uint32_t *pages, size_t count, uint64_t begin, bool done);
/* Clear of a namespace. */
uint64_t model_clear_begin(struct model *model, uint32_t ns);
void model_clear_end(struct model *model, uint32_t ns, uint64_t begin, bool done);

/* A sync that began at that time was completed. */
void model_sync_end(struct model *model, uint64_t begin);
void model_crash(struct model *model, enum sim_crash_mode mode);
/* One of several processes died, others go on: calls may be under way. */
void model_death(struct model *model);

/* Pages of one namespace, or (pages NULL) all pages of all. model_look_end() frees it. */
struct model_look model_look_begin(struct model *model, uint64_t drops, uint32_t ns, const uint32_t *pages,
                                   size_t count);
void model_look_end(struct model_look *look);
/* Whether the page, number `index` of the look, may have been seen, or must. */
bool model_may_be(struct model *model, const struct model_look *look, size_t index, uint32_t ns, uint32_t page);
bool model_must_be(struct model *model, const struct model_look *look, uint32_t ns, uint32_t page);
/* It was seen, or not. */
void model_saw(struct model *model, const struct model_look *look, uint32_t ns, uint32_t page, bool present);

#endif
