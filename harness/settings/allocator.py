"""Tells the C library's allocator to keep the memory that is freed, for a command that encodes on a CPU.

Every micro-batch allocates the activations of the last one again. glibc returns large blocks to the system when they
are freed, so each time the system maps and zeroes them anew, page by page. Only the standard library is imported here.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

SETTING = "HARNESS_ALLOCATOR"
_MIB = 1 << 20
# Numbers of mallopt(3). Blocks below the mmap threshold are taken from the heap, where they are found again; larger
# ones still go back to the system at once. The heap is cut when more than the trim threshold is free at its end; -1:
# never, because the next step needs the memory of the kept graphs again.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MMAP_BYTES, _TRIM_BYTES, _TOP_PAD_BYTES = 64 * _MIB, -1, 64 * _MIB
# What glibc's own thresholds rise to; also the most that older versions of glibc take as mmap threshold.
_SYSTEM_MMAP_BYTES, _SYSTEM_TRIM_BYTES = 32 * _MIB, 64 * _MIB
# Where the least memory is asked for: between gradients that stay, freed activations would leave holes in the heap that
# do not go back. With smaller blocks outside of the heap, too, most of a step would go into mapping them.
_LEAST_MMAP_BYTES = 4 * _MIB
# The fields of mallinfo(3): uordblks are the bytes in use in the heap, hblkhd those in blocks outside of it.
_MALLINFO = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
_PROBE_BYTES = 1 << 18
_OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
_OWN_TUNABLES = ("mmap_threshold", "mmap_max", "trim_threshold", "top_pad")


@cache
def keep_freed_memory() -> str:
    """Set glibc's thresholds once, unless the user has set the allocator. Returns what was done, in words.

    Raises:
        ValueError: `HARNESS_ALLOCATOR` is neither `tuned` nor `system`.
    """
    setting = os.environ.get(SETTING, "tuned")
    if setting not in ("tuned", "system"):
        raise ValueError(f"{SETTING}: got {setting!r}, expected tuned or system; leave it out for tuned")
    if setting == "system":
        return f"as the system sets it ({SETTING}=system)"
    own = _settings_of_the_user()
    if own is not None:
        return f"as the user sets it ({own})"
    libc = _glibc()
    if libc is None:
        return "as the system sets it (not glibc's)"
    if not libc.mallopt(_MMAP_THRESHOLD, _MMAP_BYTES):
        libc.mallopt(_MMAP_THRESHOLD, _SYSTEM_MMAP_BYTES)
    libc.mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)
    libc.mallopt(_TOP_PAD, _TOP_PAD_BYTES)
    return f"freed memory is kept for the next micro-batch ({SETTING}=system: the system's own way)"


@cache
def return_large_blocks() -> str:
    """Let blocks go back that a kept heap would find no room for again: layers that ZeRO 3 gathers and frees.

    What the user has set stays. Returns what was done, in words.
    """
    done = keep_freed_memory()
    libc = _glibc()
    if done.startswith("freed") and libc is not None:
        libc.mallopt(_MMAP_THRESHOLD, _SYSTEM_MMAP_BYTES)
    return done


@cache
def return_freed_memory() -> str:
    """Let large blocks, and what is free at the heap's end, go back: less is held, at the cost of mapping it anew.

    For a run that asks for the least memory. What the user has set stays. Returns what was done, in words.
    """
    done = keep_freed_memory()
    libc = _glibc()
    if not done.startswith("freed") or libc is None:
        return done
    libc.mallopt(_MMAP_THRESHOLD, _LEAST_MMAP_BYTES)
    libc.mallopt(_TRIM_THRESHOLD, _SYSTEM_TRIM_BYTES)
    libc.mallopt(_TOP_PAD, 0)
    libc.malloc_trim(0)
    return "freed memory goes back to the system (training.activation_memory: 0 asks for the least)"


def _settings_of_the_user() -> str | None:
    """The variable with which the user has set what is set here; None if there is none."""
    name = next((name for name in _OWN_SETTINGS if name in os.environ), None)
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return name or ("GLIBC_TUNABLES" if any(f"glibc.malloc.{key}=" in tunables for key in _OWN_TUNABLES) else None)


def _glibc() -> ctypes.CDLL | None:
    """glibc, if this process allocates with it; None with musl, on macOS, and with another malloc by LD_PRELOAD.

    A block tells: glibc counts it, or does not. The address of malloc does not tell, because in an executable that is
    linked to a fixed place, such as Debian's Python, it is that of a jump.
    """
    try:
        libc, process = ctypes.CDLL("libc.so.6"), ctypes.CDLL(None)
        libc.gnu_get_libc_version()  # an AttributeError if it is not glibc
        used = libc.mallinfo2 if hasattr(libc, "mallinfo2") else libc.mallinfo  # before glibc 2.33
    except (OSError, AttributeError, TypeError):
        return None
    number = ctypes.c_size_t if hasattr(libc, "mallinfo2") else ctypes.c_int
    used.restype = type("MallocInfo", (ctypes.Structure,), {"_fields_": [(name, number) for name in _MALLINFO]})
    process.malloc.restype, process.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    process.free.argtypes = [ctypes.c_void_p]
    before = used()
    block = process.malloc(_PROBE_BYTES)
    after = used()
    process.free(block)
    grown = (after.uordblks + after.hblkhd) - (before.uordblks + before.hblkhd)
    return libc if grown >= _PROBE_BYTES else None
