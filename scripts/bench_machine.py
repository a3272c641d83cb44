# SPDX-License-Identifier: Apache-2.0
"""What a benchmark ran on: processor, memory, kernel, the file system and device of a directory, version and commit."""

import datetime
import os
import platform
import subprocess


def read_text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def output_of(*words):
    """What a command prints, or nothing."""
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def utc_now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def field(text, name):
    """The value of the first line 'name : value'."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def file_system(directory):
    """(type, mount options, device, its number) of the mount that a directory is on."""
    device = os.stat(directory).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in read_text("/proc/self/mountinfo").splitlines():
        words = line.split()
        if words[2] == number:
            rest = words[words.index("-") + 1:]
            return rest[0], words[5], rest[1], number
    return "unknown", "", "unknown", number


def device_facts(name, number):
    """(a block device in words: its name, its model where it has one, its size; its scheduler)"""
    queue = f"/sys/dev/block/{number}"
    if not os.path.exists(os.path.join(queue, "queue")):  # a partition
        queue = os.path.join(queue, "..")
    model = read_text(os.path.join(queue, "device", "model")).strip()
    sectors = read_text(f"/sys/dev/block/{number}/size").strip()
    scheduler = read_text(os.path.join(queue, "queue", "scheduler")).strip()
    parts = [name, model, f"{int(sectors) * 512 / 1e9:.0f} GB" if sectors else ""]
    return ", ".join(part for part in parts if part), scheduler


def machine_facts(varve, directory, root):
    """Keys and values for people; absent facts are empty."""
    cpu, memory = read_text("/proc/cpuinfo"), read_text("/proc/meminfo")
    kind, options, name, number = file_system(directory)
    device, scheduler = device_facts(name, number)
    virtual = " hypervisor " in f" {field(cpu, 'flags')} "
    kib = field(memory, "MemTotal").split()
    commit = output_of("git", "-C", root, "rev-parse", "--short=12", "HEAD")
    changed = output_of("git", "-C", root, "status", "--porcelain", "--untracked-files=no")
    return {
        "date": utc_now(),
        "cpu": field(cpu, "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": virtual,
        "memory_gib": round(int(kib[0]) / (1 << 20), 1) if kib else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": f"{kind} ({options})",
        "device": device,
        "scheduler": scheduler,
        "load": read_text("/proc/loadavg").strip(),
        "varve": output_of(varve, "--version"),
        "commit": commit + (" with changes" if commit and changed else ""),
    }
