/* SPDX-License-Identifier: Apache-2.0 */
#include "reclaim/write_budget.h"

__extension__ typedef unsigned __int128 wide; /* bytes a day times nanoseconds */

static int64_t
depth(const struct write_budget *budget)
{
    return (int64_t)(budget->day_bytes / WRITE_BUDGET_DEPTHS);
}

static void
fill(struct write_budget *budget, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns > budget->at_ns ? now_ns - budget->at_ns : 0;
    wide gained = (wide)budget->day_bytes * elapsed_ns + budget->part;
    int64_t room = depth(budget) - budget->tokens;

    budget->at_ns = now_ns;
    budget->part = (uint64_t)(gained % WRITE_BUDGET_DAY_NS);
    gained /= WRITE_BUDGET_DAY_NS;
    if (room <= 0 || gained >= (uint64_t)room) {
        budget->tokens = depth(budget);
        budget->part = 0;
    } else {
        budget->tokens += (int64_t)gained;
    }
}

void
write_budget_set(struct write_budget *budget, uint64_t day_bytes, uint64_t now_ns)
{
    bool begins = budget->day_bytes == 0;

    if (!begins)
        fill(budget, now_ns);
    budget->day_bytes = day_bytes < WRITE_BUDGET_DAY_MAX ? day_bytes : WRITE_BUDGET_DAY_MAX;
    budget->at_ns = now_ns;
    budget->part = 0;
    if (begins || budget->tokens > depth(budget))
        budget->tokens = depth(budget);
}

void
write_budget_charge(struct write_budget *budget, int64_t bytes)
{
    if (budget->day_bytes > 0)
        budget->tokens -= bytes; /* each is far below 2^62 */
}

size_t
write_budget_admit(struct write_budget *budget, uint64_t now_ns, size_t count)
{
    uint64_t twice;

    if (budget->day_bytes == 0)
        return count;
    fill(budget, now_ns);
    if (budget->tokens <= 0)
        return 0;
    twice = 2 * (uint64_t)budget->tokens;
    if (twice >= (uint64_t)depth(budget))
        return count;
    return (size_t)((double)count * (double)twice / (double)depth(budget));
}
