# SPDX-License-Identifier: Apache-2.0
"""KV pages from a store into page-locked host memory and on to the GPU.

A page is what SGLang's host pool holds of `page_tokens` tokens: [2 * layers, kv_heads, page_tokens, head_dim] of bf16.
The ways to read differ only in their read(); the copies to the GPU are the same for all, on a stream of their own,
while the next batch is being read.
"""

import mmap
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import torch

ALIGN = 4096


def page_locked(size, device):
    """Bytes that start at a multiple of ALIGN; page-locked where there is a GPU."""
    memory = torch.empty(size + ALIGN, dtype=torch.uint8, pin_memory=device.type == "cuda")
    start = -memory.data_ptr() % ALIGN
    return memory[start : start + size]


def forget(directory):
    """Write back, and ask the kernel to drop the page cache of all files below `directory`."""
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                fd = os.open(os.path.join(folder, name), os.O_RDONLY)
            except OSError:
                continue  # a store's background work may remove its files
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


class FileStore:
    """A file a page, read one after the other as SGLang's HiCacheFile does: open without buffering, readinto."""

    readers = 1

    def __init__(self, directory, page_bytes):
        self.directory, self.page_bytes = directory, page_bytes
        os.makedirs(directory)

    def path(self, page_id):
        return os.path.join(self.directory, f"{page_id.hex()}_llama_0_1.bin")

    def put(self, ids, memory, _parent):
        for index in range(len(ids) // 32):
            with open(self.path(ids[32 * index : 32 * index + 32]), "wb", buffering=0) as file:
                view = memoryview(memory[index * self.page_bytes : (index + 1) * self.page_bytes].numpy())
                while view:
                    view = view[file.write(view) :]

    def read(self, ids, memory):
        for index in range(len(ids) // 32):
            with open(self.path(ids[32 * index : 32 * index + 32]), "rb", buffering=0) as file:
                view = memoryview(memory[index * self.page_bytes : (index + 1) * self.page_bytes].numpy())
                if file.readinto(view) != self.page_bytes:
                    raise OSError("a page's file is too short")

    def sync(self):
        forget(self.directory)

    def facts(self):
        return {}

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)


class VarveStore:
    """Varve through its Python bindings: a call a batch, from the drive into the page-locked memory."""

    readers = 2  # so that the drive has work while one batch ends and the next begins

    def __init__(self, varve, directory, page_bytes, options):
        self.varve, self.directory, self.page_bytes = varve, directory, page_bytes
        self.store = varve.Store(directory, **options)
        self.pages = self.store.namespace("llama-8b/bf16/tp0", "bf16", page_bytes)

    def addresses(self, ids, memory):
        return [memory.data_ptr() + index * self.page_bytes for index in range(len(ids) // 32)]

    def check(self, statuses, what):
        bad = [status for status in statuses if status != self.varve.OK]
        if bad:
            raise OSError(f"{what}: {len(bad)} of {len(statuses)} pages: {self.varve.strerror(bad[0])}")

    def put(self, ids, memory, parent):
        self.check(self.pages.put_batch(ids, self.addresses(ids, memory), self.page_bytes, parent=parent), "put")

    def read(self, ids, memory):
        self.check(self.pages.get_batch(ids, self.addresses(ids, memory), self.page_bytes), "get")

    def sync(self):
        self.store.sync()
        forget(self.directory)  # where the file system has no direct I/O

    def facts(self):
        stats = self.store.stats()
        names = ("io_engine_uring", "direct_io", "disk_bytes", "put_bytes", "get_bytes", "get_copied_bytes")
        coded = ("codec_put_bytes", "codec_put_stored_bytes", "codec_get_bytes", "codec_get_stored_bytes")
        return {name: stats[name] for name in (*names, *coded, "read_bandwidth_bytes_s")}

    def close(self):
        self.store.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Loader:
    """A ring of page-locked buffers, and their twins on the GPU."""

    def __init__(self, shape, page_tokens, batch_pages, readers, device):
        self.shape, self.page_tokens, self.batch_pages, self.device = shape, page_tokens, batch_pages, device
        self.page_bytes = page_tokens * shape.token_bytes
        size = batch_pages * self.page_bytes
        self.host = [page_locked(size, device) for _ in range(readers + 2)]
        self.twins = [torch.empty(size, dtype=torch.uint8, device=device) for _ in self.host]
        self.cuda = device.type == "cuda"
        self.stream = torch.cuda.Stream() if self.cuda else None
        self.readers = readers

    def as_pages(self, memory, count):
        """[2 * layers, kv_heads, count, page_tokens, head_dim], as the past has it, of `count` pages in `memory`."""
        pages = memory[: count * self.page_bytes].view(torch.bfloat16)
        shape = (count, 2 * self.shape.layers, self.shape.kv_heads, self.page_tokens, self.shape.head_dim)
        return pages.view(shape).permute(1, 2, 0, 3, 4)

    def part_of(self, past, first, count):
        part = past[:, :, first * self.page_tokens : (first + count) * self.page_tokens]
        return part.unflatten(2, (count, self.page_tokens))

    def save(self, store, ids, past):
        """Put all pages of `past`."""
        for first in range(0, len(ids) // 32, self.batch_pages):
            count = min(self.batch_pages, len(ids) // 32 - first)
            used = count * self.page_bytes
            self.as_pages(self.twins[0], count).copy_(self.part_of(past, first, count))
            self.host[0][:used].copy_(self.twins[0][:used])
            store.put(ids[32 * first : 32 * (first + count)], self.host[0], ids[32 * (first - 1) : 32 * first] or None)
        store.sync()

    def load(self, store, ids, past):
        """Read the pages of `ids` into the beginning of `past`. The copies may still run on return: see wait()."""
        begin = time.perf_counter()
        copied, marks = [None] * len(self.host), []

        def read(batch, first, count):
            slot = batch % len(self.host)
            if copied[slot] is not None:
                copied[slot].synchronize()
            store.read(ids[32 * first : 32 * (first + count)], self.host[slot])
            return slot, first, count, time.perf_counter()

        total = len(ids) // 32
        todo = [(index, first) for index, first in enumerate(range(0, total, self.batch_pages))]
        last_read = begin
        with ThreadPoolExecutor(store.readers) as pool:
            running = []
            for index, first in todo[: store.readers + 1]:
                running.append(pool.submit(read, index, first, min(self.batch_pages, total - first)))
            for position in range(len(todo)):
                slot, first, count, done = running[position].result()
                last_read = max(last_read, done)
                marks.append(self.copy(slot, first, count, past))
                copied[slot] = marks[-1][1] if self.cuda else None
                if len(running) < len(todo):
                    index, start = todo[len(running)]
                    running.append(pool.submit(read, index, start, min(self.batch_pages, total - start)))
        return {"read_s": last_read - begin, "marks": marks, "bytes": total * self.page_bytes}

    def copy(self, slot, first, count, past):
        used = count * self.page_bytes
        if not self.cuda:
            begin = time.perf_counter()
            self.twins[slot][:used].copy_(self.host[slot][:used])
            end = time.perf_counter()
            self.part_of(past, first, count).copy_(self.as_pages(self.twins[slot], count))
            return begin, end
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(self.stream):
            begin.record()
            self.twins[slot][:used].copy_(self.host[slot][:used], non_blocking=True)
            end.record()
            self.part_of(past, first, count).copy_(self.as_pages(self.twins[slot], count))
        return begin, end

    def wait(self):
        """What the current stream does from now on sees the pages."""
        if self.cuda:
            torch.cuda.current_stream().wait_stream(self.stream)

    def copy_seconds(self, marks):
        """Seconds the copies from host to device took, the device idle."""
        if self.cuda:
            return sum(begin.elapsed_time(end) for begin, end in marks) / 1e3
        return sum(end - begin for begin, end in marks)


def raw_read_gbs(paths, threads=16, transfer=1 << 20):
    """GB/s of direct reads of whole files from many threads: what the drive can give."""

    def read(path):
        done, fd = 0, os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, transfer) as buffer:
                while True:
                    got = os.preadv(fd, [buffer], done)
                    done += got
                    if got < transfer:
                        return done
        finally:
            os.close(fd)

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(read, paths))
    return total / (time.perf_counter() - begin) / 1e9
