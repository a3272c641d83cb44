/* SPDX-License-Identifier: Apache-2.0 */
/*
 * varve dump: the structures of one file of a store, as docs/FORMAT.md describes them. Needs no store and takes no lock; the file may be
 * damaged, or none of ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "commands.h"
#include "format/format.h"
#include "format/log_format.h"
#include "format/manifest_format.h"
#include "format/run_format.h"

static const char description[] =
    "Show what is in one file of a store: a segment (*.seg), a run (*.run) or a manifest (*.manifest), by its name. "
    "The file is\n"
    "only read, no lock is taken, and checksums are said to hold or not. docs/FORMAT.md explains the fields.\n";

static const char examples[] = "  varve dump /mnt/nvme/kv/0000000000000002.seg\n"
                               "      the segment's header and one line for each extent\n"
                               "  varve dump /mnt/nvme/kv/0000000000000001.manifest\n"
                               "      every edit\n";

struct file {
    int fd;
    uint64_t size;
};

/* Read exactly `size` bytes; false: the file ends before, or cannot be read. */
static bool
read_at(const struct file *file, void *buf, size_t size, uint64_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(file->fd, (uint8_t *)buf + done, size - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static void
print_extent(const struct extent_header *header)
{
    (void)printf("extent at %" PRIu64 ": namespace %" PRIu32 ", branch %" PRIu64 ", depth %" PRIu32 ", %" PRIu32
                 " pages",
                 header->offset, header->ns_id, header->branch, header->depth, header->count);
    if (header->parent_branch != 0)
        (void)printf(", parent (%" PRIu64 ", %" PRIu32 ")", header->parent_branch, header->parent_depth);
    if (header->sizes == NULL)
        (void)printf(", %" PRIu32 " bytes a page", header->page_bytes);
    else
        (void)printf(", sizes differ");
    (void)printf(", codec %u, %" PRIu64 " bytes in all, durable before it: %" PRIu64 "\n", header->codec,
                 header->extent_bytes, header->synced_offset);
}

static enum log_decode
read_extent(const struct file *file, uint8_t *buf, uint64_t salt, uint64_t offset, struct extent_header *header)
{
    size_t size = EXTENT_FIXED_BYTES;
    enum log_decode decoded;

    if (!read_at(file, buf, size, offset))
        return LOG_DECODE_BAD;
    decoded = extent_header_decode(buf, size, salt, offset, header);
    if (decoded == LOG_DECODE_SHORT) {
        size = header->header_bytes;
        if (!read_at(file, buf, size, offset))
            return LOG_DECODE_BAD;
        decoded = extent_header_decode(buf, size, salt, offset, header);
    }
    return decoded;
}

static int
dump_segment(const struct file *file)
{
    static uint8_t buf[EXTENT_HEADER_BYTES_MAX];
    struct segment_header segment;
    uint64_t offset = SEGMENT_HEADER_BYTES, gaps = 0;

    if (!read_at(file, buf, SEGMENT_HEADER_BYTES, 0) || segment_header_decode(buf, &segment) != LOG_DECODE_OK) {
        (void)printf("segment header: damaged, or of a newer version\n");
        return CLI_EXIT_FOUND;
    }
    (void)printf("segment %" PRIu64 ": salt %016" PRIx64 ", made with %" PRIu64 " bytes, payload aligned to %u\n",
                 segment.number, segment.salt, segment.bytes, 1U << segment.align_shift);
    while (offset + LOG_BLOCK_BYTES <= file->size) {
        struct extent_header header;

        if (read_extent(file, buf, segment.salt, offset, &header) == LOG_DECODE_OK) {
            print_extent(&header);
            offset += header.extent_bytes;
        } else {
            gaps++;
            offset += LOG_BLOCK_BYTES;
        }
    }
    (void)printf("%" PRIu64 " blocks of %d bytes without a valid header\n", gaps, LOG_BLOCK_BYTES);
    return CLI_EXIT_OK;
}

static void
print_item(const struct manifest_item *item)
{
    uint64_t number = item->u.segment.number;

    switch (item->kind) {
    case MANIFEST_COUNTERS:
        (void)printf("  counters: next file %" PRIu64 ", next branch %" PRIu64 "\n", item->u.counters.next_number,
                     item->u.counters.next_branch);
        break;
    case MANIFEST_NAMESPACE:
        (void)printf("  namespace %" PRIu32 ": \"%.*s\", element type %" PRIu32 ", page bytes hint %" PRIu64 "\n",
                     item->u.ns.ns_id, (int)item->u.ns.name_size, item->u.ns.name, item->u.ns.element_type,
                     item->u.ns.page_bytes_hint);
        break;
    case MANIFEST_SEGMENT_ADD:
        (void)printf("  segment %" PRIu64 " added: salt %016" PRIx64 ", %" PRIu64 " bytes, aligned to %u\n", number,
                     item->u.segment.salt, item->u.segment.bytes, 1U << (item->u.segment.align_shift & 31));
        break;
    case MANIFEST_SEGMENT_SEAL:
        (void)printf("  segment %" PRIu64 " sealed at %" PRIu64 " bytes\n", number, item->u.segment.bytes);
        break;
    case MANIFEST_SEGMENT_USE:
        (void)printf("  segment %" PRIu64 " holds %" PRIu64 " pages, %" PRIu64 " bytes of namespace %" PRIu32 "\n",
                     number, item->u.segment.use_pages, item->u.segment.use_bytes, item->u.segment.ns_id);
        break;
    case MANIFEST_SEGMENT_DROP:
        (void)printf("  segment %" PRIu64 " dropped\n", number);
        break;
    case MANIFEST_SEGMENT_INDEXED:
        (void)printf("  segment %" PRIu64 " is in runs up to %" PRIu64 "\n", number, item->u.segment.offset);
        break;
    case MANIFEST_RUN_ADD:
        (void)printf("  run %" PRIu64 " added: level %" PRIu32 ", %" PRIu64 " pages, %" PRIu64 " entries, %" PRIu32
                     " blocks, %" PRIu64 " bytes\n",
                     item->u.run.number, item->u.run.level, item->u.run.pages, item->u.run.entries, item->u.run.blocks,
                     item->u.run.file_bytes);
        break;
    case MANIFEST_RUN_REMOVE:
        (void)printf("  run %" PRIu64 " removed\n", item->u.run.number);
        break;
    case MANIFEST_PAGE_REMOVE:
        (void)printf("  page at segment %" PRIu64 " offset %" PRIu64 " removed\n", number, item->u.segment.offset);
        break;
    }
}

static int
dump_records(const uint8_t *data, size_t size, uint64_t salt)
{
    size_t at = MANIFEST_HEADER_BYTES, length;
    int exit_code = CLI_EXIT_OK;

    for (uint64_t sequence = 0; (length = manifest_record_check(data + at, size - at, salt, sequence)) > 0;
         sequence++) {
        struct wire_reader reader = wire_reader_make(data + at + MANIFEST_FRAME_BYTES, length - MANIFEST_FRAME_BYTES);
        struct manifest_item item;

        (void)printf("edit %" PRIu64 " at %zu, %zu bytes\n", sequence, at, length);
        while (manifest_item_decode(&reader, &item))
            print_item(&item);
        if (reader.failed) {
            (void)printf("  unknown item\n");
            exit_code = CLI_EXIT_FOUND;
        }
        at += length;
    }
    (void)printf("%zu bytes behind the last valid edit\n", size - at);
    return exit_code;
}

static int
dump_manifest(const struct file *file)
{
    struct manifest_header header;
    uint8_t *data;
    int exit_code;

    if (file->size < MANIFEST_HEADER_BYTES || file->size > MANIFEST_RECORD_BYTES_MAX) {
        (void)printf("manifest: its length of %" PRIu64 " bytes is none a manifest has\n", file->size);
        return CLI_EXIT_FOUND;
    }
    data = malloc((size_t)file->size);
    if (data == NULL || !read_at(file, data, (size_t)file->size, 0)) {
        cli_error("dump: the file could not be read");
        exit_code = CLI_EXIT_STORE;
    } else if (manifest_header_decode(data, &header) != VARVE_OK) {
        (void)printf("manifest header: damaged, or of a newer version\n");
        exit_code = CLI_EXIT_FOUND;
    } else {
        (void)printf("manifest %" PRIu64 ": salt %016" PRIx64 ", store ", header.number, header.salt);
        for (size_t i = 0; i < sizeof(header.store_id); i++)
            (void)printf("%02x", header.store_id[i]);
        (void)printf("\n");
        exit_code = dump_records(data, (size_t)file->size, header.salt);
    }
    free(data);
    return exit_code;
}

static bool
dump_block(const struct file *file, const struct run_footer *footer, uint32_t number)
{
    static uint8_t block[BLOCK_BYTES];
    struct block_walk walk;
    struct entry entry;

    if (!read_at(file, block, BLOCK_BYTES, (uint64_t)number * BLOCK_BYTES) ||
        !block_check(block, block_seed(footer->salt, footer->file_number, number))) {
        (void)printf("block %" PRIu32 ": damaged\n", number);
        return false;
    }
    (void)printf("block %" PRIu32 ": %" PRIu32 " pages\n", number, block_pages(block));
    block_walk_init(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        (void)printf("  namespace %" PRIu32 ", branch %" PRIu64 ", depth %" PRIu32 ", %" PRIu32
                     " pages, segment %" PRIu64 " offset %" PRIu64,
                     entry.key.ns_id, entry.key.branch, entry.key.depth, entry.count, entry.segment, entry.offset);
        if (entry.parent_branch != 0)
            (void)printf(", parent (%" PRIu64 ", %" PRIu32 ")", entry.parent_branch, entry.parent_depth);
        (void)printf("\n");
    }
    return true;
}

static int
dump_run(const struct file *file)
{
    static uint8_t page[RUN_FOOTER_BYTES];
    struct run_footer footer;
    int exit_code = CLI_EXIT_OK;

    if (file->size < RUN_FOOTER_BYTES || !read_at(file, page, RUN_FOOTER_BYTES, file->size - RUN_FOOTER_BYTES) ||
        run_footer_decode(page, &footer) != VARVE_OK || run_file_bytes(&footer) != file->size) {
        (void)printf("run footer: damaged, or of a newer version\n");
        return CLI_EXIT_FOUND;
    }
    (void)printf("run %" PRIu64 ": %" PRIu64 " pages in %" PRIu64 " entries in %" PRIu32 " blocks; locator: %" PRIu64
                 " buckets, slots of %u bytes, fingerprints of %u bits\n",
                 footer.file_number, footer.pages, footer.entries, footer.block_count, footer.bucket_count,
                 footer.slot_bytes, footer.fingerprint_bits);
    for (uint32_t i = 0; i < footer.block_count; i++) {
        if (!dump_block(file, &footer, i))
            exit_code = CLI_EXIT_FOUND;
    }
    return exit_code;
}

static int
dump_file(const char *path)
{
    const char *slash = strrchr(path, '/');
    uint64_t number;
    enum format_file_kind kind = format_parse_name(slash == NULL ? path : slash + 1, &number);
    struct file file = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    struct stat status;
    int exit_code = CLI_EXIT_USAGE;

    if (file.fd < 0 || fstat(file.fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        cli_error("dump: %s: %s", path, file.fd < 0 ? strerror(errno) : "not a regular file");
    } else {
        file.size = (uint64_t)status.st_size;
        if (kind == FORMAT_FILE_SEGMENT)
            exit_code = dump_segment(&file);
        else if (kind == FORMAT_FILE_RUN)
            exit_code = dump_run(&file);
        else if (kind == FORMAT_FILE_MANIFEST)
            exit_code = dump_manifest(&file);
        else
            cli_error("dump: %s: the name is none of a segment (.seg), run (.run) or manifest (.manifest)", path);
    }
    if (file.fd >= 0)
        (void)close(file.fd);
    return cli_flush(exit_code);
}

int
cmd_dump(int argc, char **argv)
{
    const struct cli_spec spec = {"dump", "FILE", description, examples, NULL, 0, 1, 1, false};
    int exit_code;

    if (cli_parse(&spec, &argc, &argv, &exit_code))
        exit_code = dump_file(argv[0]);
    return exit_code;
}
