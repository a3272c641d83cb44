#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second reader of the disk format, written from docs/FORMAT.md alone, so that the document and the bytes cannot drift apart.

    read_format.py IMAGE.tar.gz...

Reads every structure of a golden image (checksums, lengths, reserved zeros, order, index against log) and compares the live pages
with the list beside the archive (README.md). Prints what does not hold; exit code 1 when there is anything.
"""

import ctypes
import ctypes.util
import hashlib
import io
import re
import struct
import sys
import tarfile
from collections import namedtuple
from pathlib import Path

VERSION = 1
FRAME = 24
BLOCK = 16384
PAGE_MAX = 64 << 20

xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
xxhash.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]

zstd = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
zstd.ZSTD_decompress.restype = ctypes.c_size_t
zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]

Extent = namedtuple("Extent", "offset branch parent ns_id depth pages codec")
Page = namedtuple("Page", "id sum size offset")
Entry = namedtuple("Entry", "ns_id branch depth segment codec align parent pages")


class Bad(Exception):
    """A structure is not as the document says."""


def require(condition, what):
    if not condition:
        raise Bad(what)


def xxh3(data, seed=0):
    return xxhash.XXH3_64bits_withSeed(bytes(data), len(data), seed)


def u16(data, at):
    return struct.unpack_from("<H", data, at)[0]


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def zero(data, what):
    require(not any(data), f"{what}: reserved bytes are not zero")


def pad(size, shift):
    unit = 1 << shift
    return (size + unit - 1) // unit * unit


class Reader:
    """Bytes, varints and zigzag differences, one after the other."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, size):
        require(self.at + size <= len(self.data), "ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                require(value < 1 << 64, "a varint of more than 64 bits")
                return value
        raise Bad("a varint of more than 10 bytes")

    def zigzag(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)


def page_sum(ns_id, page_id, data):
    return xxh3(data, xxh3(struct.pack("<I", ns_id) + page_id))


# Manifest


class State:
    def __init__(self):
        self.next_number = 0
        self.next_branch = 0
        self.names = {}  # name: namespace id
        self.segments = {}  # number: salt, length, align_shift, sealed, indexed
        self.runs = {}
        self.removed = set()

    def apply(self, items):
        reader = Reader(items)
        while reader.at < len(items):
            kind = reader.byte()
            require(1 <= kind <= 10, f"manifest item of kind {kind}")
            getattr(self, f"item_{kind}")(reader)

    def item_1(self, reader):
        self.next_number = max(self.next_number, reader.varint())
        self.next_branch = max(self.next_branch, reader.varint())

    def item_2(self, reader):
        ns_id, element, _hint = reader.varint(), reader.varint(), reader.varint()
        size = reader.varint()
        require(ns_id != 0 and ns_id < 1 << 32 and 1 <= size <= 1023 and element < 1 << 32, "a namespace out of range")
        self.names[reader.take(size).decode()] = ns_id

    def item_3(self, reader):
        number, salt, size, align = reader.varint(), reader.varint(), reader.varint(), reader.byte()
        require(number not in self.segments and 9 <= align <= 12, "segment add")
        self.segments[number] = {"salt": salt, "bytes": size, "align": align, "sealed": False, "indexed": 0, "use": {}}

    def segment(self, number):
        """What says something about a segment that was dropped meanwhile says nothing."""
        return self.segments.get(number, {"sealed": True, "use": {}})

    def item_4(self, reader):
        number, size = reader.varint(), reader.varint()
        self.segment(number).update(sealed=True, bytes=size)

    def item_5(self, reader):
        number, ns_id, pages, size = (reader.varint() for _ in range(4))
        require(self.segment(number)["sealed"], "use of a segment that is not sealed")
        self.segment(number)["use"][ns_id] = (pages, size)

    def item_6(self, reader):
        number = reader.varint()
        del self.segments[number]
        self.removed = {removal for removal in self.removed if removal[0] != number}

    def item_7(self, reader):
        number = reader.varint()
        self.segment(number)["indexed"] = reader.varint()

    def item_8(self, reader):
        number, size, pages, entries, blocks, level = (reader.varint() for _ in range(6))
        require(level >= 1 and number not in self.runs, "run add")
        self.runs[number] = {"bytes": size, "pages": pages, "entries": entries, "blocks": blocks, "level": level}

    def item_9(self, reader):
        del self.runs[reader.varint()]

    def item_10(self, reader):
        number, offset = reader.varint(), reader.varint()
        self.removed.add((number, offset, reader.take(16)))


def read_manifest(files):
    current = files["CURRENT"]
    require(re.fullmatch(rb"[0-9a-f]{16}\.manifest\n", current), "CURRENT")
    data = files[current[:-1].decode()]
    require(data[:4] == b"VMAN" and u16(data, 4) == VERSION, "manifest: magic or version")
    zero(data[6:8] + data[40:56], "manifest header")
    require(u64(data, 8) == int(current[:16], 16), "manifest: file number")
    require(u64(data, 56) == xxh3(data[:56]), "manifest header: checksum")
    salt, state, at, sequence = u64(data, 16), State(), 64, 0
    while at + FRAME <= len(data):
        size = u32(data, at + 4)
        items = data[at + FRAME : at + FRAME + size]
        if data[at : at + 4] != b"EDIT" or u64(data, at + 8) != sequence or len(items) != size:
            break
        if u64(data, at + 16) != xxh3(struct.pack("<QQ", xxh3(items), salt) + data[at : at + 16]):
            break
        state.apply(items)
        at += FRAME + size
        sequence += 1
    require(sequence > 0, "manifest: no record 0")
    return state


# Segments


def read_extent(data, at, salt, align):
    """The extent whose header lies here, or None."""
    head = data[at : at + 128]
    if head[:4] != b"VTXT" or len(head) < 128 or u64(head, 120) != xxh3(head[:120]):
        return None
    if u64(head, 8) != salt or u64(head, 16) != at:
        return None
    count, size = u32(head, 76), u32(head, 80)
    require(u16(head, 4) == VERSION and head[6] in (0, 1), "extent: version or codec")
    require(1 <= count <= 1024 and head[7] == align and u64(head, 24) != 0, "extent: fields out of range")
    zero(head[84:120], "extent header")
    table = count * 44 if size == 0xFFFFFFFF else count * 40
    require(u64(head, 56) == xxh3(data[at + 128 : at + 128 + table]), "extent: checksum of the table")
    ids, sums, sizes = at + 128, at + 128 + count * 32, at + 128 + count * 40
    place, pages = at + pad(128 + table, align), []
    zero(data[at + 128 + table : place], "extent header padding")
    for i in range(count):
        length = u32(data, sizes + 4 * i) if size == 0xFFFFFFFF else size
        require(length <= PAGE_MAX, "extent: size of a page")
        pages.append(Page(data[ids + 32 * i : ids + 32 * i + 32], u64(data, sums + 8 * i), length, place))
        place += pad(length, align)
    require(pad(place - at, 12) == u64(head, 48), "extent: length")
    require(u64(head, 40) <= at, "extent: more is synced than lies before it")
    parent = (u64(head, 32), u32(head, 72))
    return Extent(at, u64(head, 24), parent, u32(head, 64), u32(head, 68), pages, head[6]), u64(head, 48)


# Coded pages

WIDTHS = {0: 1, 1: 2, 2: 2, 3: 4, 4: 1}


def join(planes, width):
    """Elements from their planes."""
    if width == 1:
        return planes[0]
    elements = bytearray(len(planes[0]) * width)
    for i, (low, high) in enumerate(zip(planes[-2], planes[-1])):
        rotated = high << 8 | low
        struct.pack_into("<H", elements, i * width + width - 2, (rotated >> 1 | rotated << 15) & 0xFFFF)
    if width == 4:
        elements[0::4], elements[1::4] = planes[0], planes[1]
    return bytes(elements)


def read_plane(data, count, coded):
    if not coded:
        require(len(data) == count, "coded page: length of a plane")
        return data
    require(len(data) < count, "coded page: a coded plane is not shorter")
    out = ctypes.create_string_buffer(count)
    require(zstd.ZSTD_decompress(out, count, data, len(data)) == count, "coded page: a plane")
    return out.raw


def decode_page(data):
    require(len(data) >= 8 and data[0] == 1 and data[1] in WIDTHS and u16(data, 2) == 0, "coded page: header")
    size, width = u32(data, 4), WIDTHS[data[1]]
    require(size <= PAGE_MAX, "coded page: size")
    elements, blocks = size // width, []
    while elements > 0:
        blocks.append(min(elements, 65536))
        elements -= blocks[-1]
    at, page = 8 + 4 * width * len(blocks), b""
    for number, count in enumerate(blocks):
        planes = []
        for plane in range(width):
            length = u32(data, 8 + 4 * (number * width + plane))
            stored, coded = length & 0x7FFFFFFF, length >> 31
            planes.append(read_plane(data[at : at + stored], count, coded))
            at += stored
        page += join(planes, width)
    require(len(data) - at == size % width, "coded page: length")
    return page + data[at:]


def read_segment(data, number):
    require(data[:4] == b"VSEG" and u16(data, 4) == VERSION and data[7] == 0, "segment: magic or version")
    require(9 <= data[6] <= 12 and u64(data, 8) == number, "segment: fields out of range")
    require(u64(data, 32) == xxh3(data[:32]), "segment header: checksum")
    zero(data[40:4096], "segment header")
    salt, align, extents, at = u64(data, 16), data[6], [], 4096
    while at < len(data):
        found = read_extent(data, at, salt, align)
        if found is not None:
            extents.append(found[0])
        at += 4096 if found is None else found[1]
    return {"salt": salt, "align": align, "bytes": u64(data, 24), "extents": extents}


# Runs


def read_heads(data, count):
    """The heads of a block's entries: fields without pages."""
    reader, heads = Reader(data), []
    last = {"ns_id": 0, "branch": 0, "depth": 0, "segment": 0, "end": 0, "count": 0}
    last.update(codec=0, align=0, size=0)
    for _ in range(count):
        flags, head = reader.byte(), {}
        require(flags < 64, "entry: flags")
        head["count"] = reader.varint()
        head["ns_id"], head["branch"] = last["ns_id"], last["branch"]
        if not flags & 1:
            head["ns_id"] += reader.zigzag()
            head["branch"] += reader.zigzag()
        expected = last["depth"] + last["count"] if flags & 1 else 0
        head["depth"] = expected + (0 if flags & 2 else reader.zigzag())
        head["follows"], head["sized"] = bool(flags & 4), bool(flags & 8)
        head["segment"] = last["segment"]
        if not flags & 4:
            head["segment"] += reader.zigzag()
            same = head["segment"] == last["segment"]
            head["place"] = (same, reader.zigzag() if same else reader.varint())
        head["codec"], head["align"], head["size"] = last["codec"], last["align"], last["size"]
        if not flags & 16:
            head["codec"], head["align"] = reader.byte(), reader.byte()
            if not head["sized"]:
                head["size"] = reader.varint()
        head["parent"] = (reader.varint(), reader.varint()) if flags & 32 else (0, 0)
        require(1 <= head["count"] <= 1024 and (not flags & 32 or head["parent"][0] != 0), "entry: fields out of range")
        heads.append(head)
        last = head
    require(reader.at == len(data), "block: bytes after the heads")
    return heads


def read_block(data, seed):
    count, pages, sized, heads_size = u16(data, 2), u16(data, 4), u16(data, 6), u16(data, 16)
    require(data[:2] == b"BK" and count >= 1, "block: magic")
    require(u64(data, 8) == xxh3(data[:8] + struct.pack("<Q", seed) + data[16:]), "block: checksum")
    zero(data[18:32], "block")
    ids, sums, sizes = 32, 32 + 16 * pages, 32 + 24 * pages
    heads_at = sizes + 4 * sized
    zero(data[heads_at + heads_size :], "block: after the heads")
    entries, page, size_index, end = [], 0, 0, 0
    for head in read_heads(data[heads_at : heads_at + heads_size], count):
        if not head["follows"]:
            same, units = head["place"]
            end = (end if same else 0) + (units << head["align"])
        listed = []
        for _ in range(head["count"]):
            size = head["size"]
            if head["sized"]:
                size = u32(data, sizes + 4 * size_index)
                size_index += 1
            prefix = data[ids + 16 * page : ids + 16 * page + 16]
            listed.append(Page(prefix, u64(data, sums + 8 * page), size, end))
            end += pad(size, head["align"])
            page += 1
        entries.append(
            Entry(
                head["ns_id"], head["branch"], head["depth"], head["segment"], head["codec"], head["align"],
                head["parent"], listed,
            )
        )  # fmt: skip
    require(page == pages and size_index == sized, "block: number of pages")
    return entries


def key_of(data):
    ns_id, depth, branch = struct.unpack("<IIQ", data)
    return ns_id, branch, depth


def check_locator(data, footer, blocks):
    """Every page is found from its bucket on, and there is no other slot."""
    slot, slots = footer["slot"], 16 if footer["slot"] == 4 else 12
    bits = (footer["block_bits"], footer["page_bits"], footer["fingerprint_bits"])
    require(len(data) == pad(footer["buckets"] * 64, 12), "locator: length")
    buckets = []
    for at in range(0, footer["buckets"] * 64, 64):
        zero(data[at + slot * slots : at + 64], "locator bucket")
        found = [int.from_bytes(data[at + slot * i : at + slot * i + slot], "little") for i in range(slots)]
        buckets.append([value for value in found if value != 0])
    for number, entries in enumerate(blocks):
        index = 0
        for entry in entries:
            for page in entry.pages:
                take_slot(buckets, slots, page, (entry.ns_id, number, index), bits)
                index += 1
    require(not any(any(bucket) for bucket in buckets), "locator: a slot of no page")


def take_slot(buckets, slots, page, place, bits):
    ns_id, number, index = place
    block_bits, page_bits, fingerprint_bits = bits
    hashed = xxh3(page.id, ns_id)
    fingerprint = (hashed & ((1 << fingerprint_bits) - 1)) or 1
    wanted = ((fingerprint << block_bits | number) << page_bits) | index >> (10 - page_bits)
    bucket = ((hashed >> 32) * len(buckets)) >> 32
    for _ in range(len(buckets)):
        for i, value in enumerate(buckets[bucket]):
            if value == wanted:
                buckets[bucket][i] = 0
                return
        require(len(buckets[bucket]) == slots, "locator: a page is not found")
        bucket = (bucket + 1) % len(buckets)
    raise Bad("locator: a page is not found")


def read_footer(data, number):
    require(u64(data, 0) == 0x6E75725665767261 and u32(data, 16) == VERSION, "footer: magic or version")
    require(u64(data, 8) == xxh3(data[:8] + bytes(8) + data[16:]), "footer: checksum")
    require(u64(data, 32) == number, "footer: file number")
    zero(data[92:96] + data[108:], "footer")
    return {
        "blocks": u32(data, 20), "salt": u64(data, 24), "entries": u64(data, 40), "pages": u64(data, 48),
        "index_sum": u64(data, 56), "locator_sum": u64(data, 64), "last": key_of(data[72:88]), "most": u32(data, 88),
        "buckets": u64(data, 96), "slot": data[104], "block_bits": data[105], "page_bits": data[106],
        "fingerprint_bits": data[107],
    }  # fmt: skip


def read_run(data, number, named):
    footer = read_footer(data[-4096:], number)
    require(footer["slot"] in (4, 5) and footer["page_bits"] <= 10, "footer: fields out of range")
    index_at = footer["blocks"] * BLOCK
    locator_at = index_at + pad(footer["blocks"] * 16, 12)
    index, locator = data[index_at:locator_at], data[locator_at:-4096]
    require(footer["index_sum"] == xxh3(index), "block index: checksum")
    require(footer["locator_sum"] == xxh3(locator), "locator: checksum")
    zero(index[16 * footer["blocks"] :], "block index padding")
    blocks = []
    for i in range(footer["blocks"]):
        seed = xxh3(struct.pack("<QQI", footer["salt"], number, i))
        blocks.append(read_block(data[i * BLOCK : (i + 1) * BLOCK], seed))
        first = blocks[i][0]
        require(key_of(index[16 * i : 16 * i + 16]) == (first.ns_id, first.branch, first.depth), "block index: a key")
    entries = [entry for block in blocks for entry in block]
    keys = [(entry.ns_id, entry.branch, entry.depth) for entry in entries]
    require(keys == sorted(keys) and keys[-1] == footer["last"], "run: order of the keys")
    pages = sum(len(entry.pages) for entry in entries)
    require((footer["entries"], footer["pages"]) == (len(entries), pages), "footer: counts")
    require(max(len(entry.pages) for entry in entries) == footer["most"], "footer: most pages of an entry")
    wanted = (named["bytes"], named["pages"], named["entries"], named["blocks"])
    require((len(data), pages, len(entries), len(blocks)) == wanted, "run: not what the manifest says")
    check_locator(locator, footer, blocks)
    return entries


# The store


def live_pages(files):
    """{(namespace name, page id): bytes} of what a store in these files holds, and how many structures were read."""
    state = read_manifest(files)
    names = {ns_id: name for name, ns_id in state.names.items()}
    pages, places, read = {}, {}, {"segments": 0, "extents": 0, "runs": 0, "entries": 0, "manifest": 1}
    numbers = {int(name[:16], 16): name for name in files if name.endswith(".seg")}
    for number, name in sorted(numbers.items()):
        known = state.segments.get(number)
        if known is None and number < state.next_number:
            continue  # dropped
        segment = read_segment(files[name], number)
        if known is not None:
            require((known["salt"], known["align"]) == (segment["salt"], segment["align"]), "segment: not the one named")
            require(not known["sealed"] or known["bytes"] == len(files[name]), "segment: sealed at another length")
            check_use(known, segment)
        read["segments"] += 1
        read["extents"] += len(segment["extents"])
        for extent in segment["extents"]:
            for page in extent.pages:
                data = files[name][page.offset : page.offset + page.size]
                whole = page_sum(extent.ns_id, page.id, data) == page.sum
                places[number, page.offset, page.id[:16]] = (extent, page, segment["align"])
                require(whole or not (known and known["sealed"]), "a page of a sealed segment: checksum")
                removed = (number, page.offset, page.id[:16]) in state.removed
                if whole and extent.ns_id in names and not removed:
                    pages[names[extent.ns_id], page.id] = decode_page(data) if extent.codec == 1 else data
    for number, named in state.runs.items():
        entries = read_run(files[f"{number:016x}.run"], number, named)
        read["runs"] += 1
        read["entries"] += len(entries)
        for entry in entries:
            check_entry(entry, state, places)
    return pages, read


def check_use(known, segment):
    """The counts of a sealed segment, where it has any, are those of its extents."""
    counts = {}
    for extent in segment["extents"]:
        pages, size = counts.get(extent.ns_id, (0, 0))
        counts[extent.ns_id] = (pages + len(extent.pages), size + sum(page.size for page in extent.pages))
    require(not known["use"] or known["use"] == counts, "segment use: other counts than the segment has")


def check_entry(entry, state, places):
    """An entry says what the header of the extent does, or its segment is gone."""
    if entry.segment not in state.segments:
        return
    for i, page in enumerate(entry.pages):
        extent, stored, align = places[entry.segment, page.offset, page.id]
        require((stored.sum, stored.size) == (page.sum, page.size), "entry: not the page of the extent")
        require((extent.ns_id, extent.branch) == (entry.ns_id, entry.branch), "entry: not the branch of the extent")
        require(extent.depth + extent.pages.index(stored) == entry.depth + i, "entry: not the depth of the extent")
        require((entry.codec, entry.align) == (extent.codec, align), "entry: codec or alignment")


# Content of the images: README.md


def chain_ids(chain, count):
    ids, prior = [], b""
    for index in range(count):
        prior = hashlib.sha256(prior + struct.pack("<I", chain << 16 | index)).digest()
        ids.append(prior)
    return ids


def page_bytes(page_id, size):
    return bytes((page_id[i % 32] + i // 4096) & 0xFF for i in range(size))


def compare(pages, listed):
    """Live pages against the list of an image."""
    wanted = {}
    for line in listed.splitlines():
        kind, name, chain, first, count, size = line.split()
        for page_id in chain_ids(int(chain), int(first) + int(count))[int(first) :]:
            if kind == "present":
                wanted[name, page_id] = page_bytes(page_id, int(size))
            else:
                require((name, page_id) not in pages, f"{name} {chain}: a page that was removed is there")
    require(pages.keys() == wanted.keys(), f"{len(pages)} pages are there, not the {len(wanted)} listed")
    require(pages == wanted, "a page has other bytes than were put")


def load(archive):
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        return {Path(member.name).name: (tar.extractfile(member) or io.BytesIO()).read() for member in members}


def main():
    failed = 0
    for archive in sys.argv[1:]:
        try:
            pages, read = live_pages(load(archive))
            compare(pages, Path(archive.removesuffix(".tar.gz") + ".pages").read_text())
        except (Bad, KeyError, IndexError, struct.error) as error:
            print(f"{archive}: {type(error).__name__}: {error}")
            failed = 1
            continue
        print(f"{Path(archive).name}: {len(pages)} pages, " + ", ".join(f"{n} {what}" for what, n in read.items()))
    return failed


if __name__ == "__main__":
    sys.exit(main())
