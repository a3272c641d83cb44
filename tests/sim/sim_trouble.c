/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that say what fails cost no page that was stored; those that lie may cost any, but never give a wrong byte.
 */
#include "sim_trouble.h"

#include <errno.h>
#include <inttypes.h>

#include "sim_log.h"

#define FULL_BYTES_MAX (1u << 20) /* left on a file system that is nearly full */

static const char *
draw_glob(struct sim_rng *rng)
{
    static const char *const globs[] = {NULL, "*.seg", "*.seg", "*.run", "*.run", "*.manifest", "CURRENT*"};

    return globs[sim_rng_below(rng, sizeof(globs) / sizeof(globs[0]))];
}

static void
add(struct sim_disk *disk, const struct sim_fault *fault)
{
    if (disk->fault_count == SIM_FAULTS_MAX)
        sim_disk_faults_clear(disk);
    sim_log("  fault kind=%d ops=%#x %s skip=%" PRIu64 " count=%" PRIu64, (int)fault->kind, fault->ops,
            fault->glob == NULL ? "*" : fault->glob, fault->skip, fault->count);
    sim_disk_fault_add(disk, fault);
}

static void
add_errors(struct sim_disk *disk, uint64_t skip_max, uint64_t count, struct sim_rng *rng)
{
    static const unsigned ops[] = {SIM_OP_READ,        SIM_OP_READ,   SIM_OP_WRITE,    SIM_OP_WRITE,
                                   SIM_OP_SYNC,        SIM_OP_CREATE, SIM_OP_UNLINK,   SIM_OP_SYNC_DIR,
                                   SIM_OP_PREALLOCATE, SIM_OP_RENAME, SIM_OP_TRUNCATE, SIM_OP_OPEN};
    static const int errors[] = {EIO, EIO, ENOSPC, EROFS};
    struct sim_fault fault = {.kind = SIM_FAULT_ERROR,
                              .ops = ops[sim_rng_below(rng, sizeof(ops) / sizeof(ops[0]))],
                              .error = errors[sim_rng_below(rng, sizeof(errors) / sizeof(errors[0]))],
                              .skip = sim_rng_log(rng, skip_max) - 1,
                              .count = count};

    fault.glob = draw_glob(rng);
    if (fault.ops == SIM_OP_READ)
        fault.error = EIO;
    add(disk, &fault);
}

static void
add_lie(struct sim_disk *disk, unsigned op, enum sim_fault_kind kind, uint64_t skip_max, struct sim_rng *rng)
{
    struct sim_fault fault = {.ops = op, .kind = kind, .error = EIO, .skip = sim_rng_log(rng, skip_max) - 1};

    fault.glob = draw_glob(rng);
    fault.count = sim_rng_between(rng, 1, 3);
    add(disk, &fault);
}

enum sim_trouble_kind
sim_trouble_draw(uint32_t kinds, struct sim_rng *rng)
{
    uint64_t at = sim_rng_below(rng, SIM_TROUBLE_KINDS);

    while ((kinds >> at & 1) == 0)
        at = (at + 1) % SIM_TROUBLE_KINDS;
    return (enum sim_trouble_kind)at;
}

void
sim_trouble_begin(struct sim_disk *disk, enum sim_trouble_kind kind, uint64_t skip_max, struct sim_rng *rng)
{
    struct sim_fault memory = {.ops = SIM_OP_ALLOC, .kind = SIM_FAULT_ERROR, .error = ENOMEM};

    switch (kind) {
    case SIM_TROUBLE_ERRORS:
        add_errors(disk, skip_max, sim_rng_between(rng, 1, 3), rng);
        break;
    case SIM_TROUBLE_STICKY:
        add_errors(disk, skip_max, 0, rng);
        break;
    case SIM_TROUBLE_MEMORY:
        memory.skip = sim_rng_log(rng, skip_max) - 1;
        memory.count = sim_rng_between(rng, 1, 3);
        add(disk, &memory);
        break;
    case SIM_TROUBLE_FULL:
        disk->settings.size_bytes = sim_disk_used(disk) + sim_rng_log(rng, FULL_BYTES_MAX);
        sim_log("  file system of %" PRIu64 " bytes", disk->settings.size_bytes);
        break;
    case SIM_TROUBLE_LOST_SYNC:
        add_lie(disk, SIM_OP_SYNC, SIM_FAULT_SYNC_LOST, skip_max, rng);
        break;
    case SIM_TROUBLE_LOST_WRITE:
        add_lie(disk, SIM_OP_WRITE, SIM_FAULT_LOST_WRITE, skip_max, rng);
        break;
    case SIM_TROUBLE_MISDIRECT:
        add_lie(disk, SIM_OP_WRITE, SIM_FAULT_MISDIRECT, skip_max, rng);
        break;
    case SIM_TROUBLE_FLIP:
        (void)sim_disk_flip(disk, draw_glob(rng) == NULL ? "*" : "*.seg", rng);
        break;
    case SIM_TROUBLE_KINDS:
        break;
    }
}
