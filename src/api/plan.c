/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load or recompute. A decision only: the times come from the caller, who has them from varve_probe().
 *
 * With T(k) the time to load k pages and C(i, j) that to compute pages i to j, loading a prefix costs T(k) + C(k, n), and loading [f, e) behind
 * a head that is computed meanwhile max(C(0, f), T(e) - T(f) + T(1)) + C(e, n). T(1) stands for the latency that each load pays; it is a
 * little more, so a plan never promises too much. C(0, f) grows with f and T(e) - T(f) falls, so the best f for an e lies where they cross.
 */
#include <math.h>

#include "base/error.h"
#include "varve.h"

struct costs {
    const varve_prefill *prefill;
    const uint64_t *load_us;
    size_t pages;
};

/* Microseconds to compute `tokens` tokens that have `before` others before them: the cost is linear in depth, so the middle one's counts. */
static double
compute_us(const varve_prefill *prefill, double before, double tokens)
{
    return tokens * (prefill->token_us + prefill->depth_us * (before + tokens / 2));
}

/* Pages [from, to). */
static double
compute_pages_us(const struct costs *costs, size_t from, size_t to)
{
    double page_tokens = costs->prefill->page_tokens;

    return compute_us(costs->prefill, (double)costs->prefill->tokens_before + (double)from * page_tokens,
                      (double)(to - from) * page_tokens);
}

/* All that comes after page `from`, to the end of the prompt. */
static double
compute_rest_us(const struct costs *costs, size_t from)
{
    double before = (double)costs->prefill->tokens_before + (double)from * costs->prefill->page_tokens;
    double tokens = (double)(costs->pages - from) * costs->prefill->page_tokens + (double)costs->prefill->tokens_after;

    return compute_us(costs->prefill, before, tokens);
}

static double
load_range_us(const struct costs *costs, size_t first, size_t end)
{
    if (first == 0)
        return (double)costs->load_us[end - 1];
    if (first == end)
        return 0;
    return (double)(costs->load_us[end - 1] - costs->load_us[first - 1] + costs->load_us[0]);
}

static double
tail_us(const struct costs *costs, size_t first, size_t end)
{
    return fmax(compute_pages_us(costs, 0, first), load_range_us(costs, first, end));
}

static void
consider(varve_load_plan *plan, size_t first, size_t end, double ttft_us)
{
    if (ttft_us > plan->ttft_us || (!(ttft_us < plan->ttft_us) && end - first < plan->count))
        return;
    plan->first = first;
    plan->count = end - first;
    plan->ttft_us = ttft_us;
}

/* The best head for a load that ends at `end`. */
static void
consider_tails(const struct costs *costs, size_t end, varve_load_plan *plan)
{
    size_t low = 1,
           high = end; /* the first f, of [1, end], at which computing the head takes as long as loading the rest */

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compute_pages_us(costs, 0, middle) >= load_range_us(costs, middle, end))
            high = middle;
        else
            low = middle + 1;
    }
    for (size_t first = low > 1 ? low - 1 : low; first <= low && first < end; first++)
        consider(plan, first, end, tail_us(costs, first, end) + compute_rest_us(costs, end));
}

static int
check_times(const uint64_t *prefix_time_us, size_t pages, unsigned flags, varve_error *err)
{
    uint64_t before = 0;

    for (size_t i = 0; i < pages; i++) {
        if (prefix_time_us[i] >= VARVE_PLAN_NEVER) {
            if ((flags & VARVE_PLAN_TAIL) != 0)
                return error_set(err, VARVE_E_ARG, "varve_plan: VARVE_PLAN_TAIL needs the time of every page");
            continue;
        }
        if (prefix_time_us[i] < before)
            return error_set(err, VARVE_E_ARG, "varve_plan: page %zu takes less time than the pages before it", i);
        before = prefix_time_us[i];
    }
    return VARVE_OK;
}

static int
check(const varve_prefill *prefill, const uint64_t *prefix_time_us, size_t pages, unsigned flags,
      const varve_load_plan *plan, varve_error *err)
{
    if (prefill == NULL || prefill->struct_size < sizeof(*prefill))
        return error_set(err, VARVE_E_ARG, "varve_prefill: use VARVE_PREFILL_INIT");
    if (plan == NULL || plan->struct_size < sizeof(*plan))
        return error_set(err, VARVE_E_ARG, "varve_load_plan: use VARVE_LOAD_PLAN_INIT");
    if ((flags & ~(unsigned)VARVE_PLAN_TAIL) != 0)
        return error_set(err, VARVE_E_ARG, "varve_plan: unknown flags %#x", flags);
    if (pages > 0 && prefix_time_us == NULL)
        return error_set(err, VARVE_E_ARG, "varve_plan: %zu pages, but no times", pages);
    if (prefill->page_tokens == 0)
        return error_set(err, VARVE_E_ARG, "varve_plan: a page has at least one token");
    if (!(prefill->token_us >= 0) || !(prefill->depth_us >= 0) || isinf(prefill->token_us) || isinf(prefill->depth_us))
        return error_set(err, VARVE_E_ARG, "varve_plan: costs are numbers that are not negative");
    return check_times(prefix_time_us, pages, flags, err);
}

int
varve_plan(const varve_prefill *prefill, const uint64_t *prefix_time_us, size_t pages, unsigned flags,
           varve_load_plan *plan, varve_error *err)
{
    struct costs costs = {.prefill = prefill, .load_us = prefix_time_us, .pages = pages};
    int rc = check(prefill, prefix_time_us, pages, flags, plan, err);

    if (rc != VARVE_OK)
        return rc;
    plan->first = plan->count = 0;
    plan->none_us = plan->ttft_us = compute_rest_us(&costs, 0);
    plan->all_us = plan->none_us;
    for (size_t end = 1; end <= pages; end++) {
        double ttft_us = (double)prefix_time_us[end - 1] + compute_rest_us(&costs, end);

        if (prefix_time_us[end - 1] < VARVE_PLAN_NEVER)
            consider(plan, 0, end, ttft_us);
        if (end == pages)
            plan->all_us = ttft_us;
        if ((flags & VARVE_PLAN_TAIL) != 0)
            consider_tails(&costs, end, plan);
    }
    return VARVE_OK;
}
