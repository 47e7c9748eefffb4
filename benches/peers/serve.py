"""The peer's side of the comparison: one process that answers a line protocol on stdin and stdout.

    setup {json}   ->  ready {json}      builds a work; the json says which, at what size and in which configuration
    check FILE     ->  checked N         writes N results as little-endian f64, for the other side's to be held against
    run K          ->  seconds S         K iterations
    memory         ->  peak KIB          the most that was ever resident
    quit

Anything that goes wrong is answered with `error SENTENCE`, and the process lives on. Between commands it sleeps in a read.
"""

import gc
import importlib
import json
import os
import resource
import struct
import sys
import time

# work -> module; imported at the first setup that asks for it, so that a row pays for its own imports only.
MODULES = {
    "dit_forward": "networks",
    "dit_train": "networks",
    "unet_forward": "networks",
    "unet_train": "networks",
    "ddim": "sampling",
    "vae_train": "autoencoder",
    "pythae_train": "autoencoder",
    "png_loader": "loading",
    "idx_loader": "loading",
    "program_train": "program",
    "program_picture": "program",
    "view_loader": "contrast",
    "byol_train": "contrast",
    "logistic": "reading",
    "frechet": "reading",
}


def setup(ask):
    """A work: (run, check, launched); the first two take no arguments, `check` returns an iterable of numbers, and `launched` says
    whether programs of their own do the work."""
    name = ask["work"]
    if name not in MODULES:
        raise ValueError(f"no work is called {name}; there are {', '.join(MODULES)}")
    work = getattr(importlib.import_module(MODULES[name]), name)
    return *work(ask), MODULES[name] == "program"


def peak_kib(launched):
    """Of this process, or of the programs that it launched."""
    if launched:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def answer(line, work):
    """The reply to one line, and the work from now on."""
    command, _, rest = line.partition(" ")
    if command == "setup":
        work = None
        gc.collect()
        work = setup(json.loads(rest))
        return "ready {}", work
    if command == "memory":
        return f"peak {peak_kib(work is not None and work[2])}", work
    if work is None:
        raise ValueError(f"{command} before setup")
    run, check, _ = work
    if command == "check":
        values = [float(v) for v in check()]
        with open(rest, "wb") as file:
            file.write(struct.pack(f"<{len(values)}d", *values))
        return f"checked {len(values)}", work
    if command == "run":
        start = time.perf_counter()
        for _ in range(int(rest)):
            run()
        return f"seconds {time.perf_counter() - start!r}", work
    raise ValueError(f"no command is called {command}")


def main():
    # Libraries print to stdout; the protocol keeps it for itself.
    replies = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    work = None
    for line in sys.stdin:
        line = line.strip()
        if line == "quit":
            break
        try:
            reply, work = answer(line, work)
        except Exception as error:  # noqa: BLE001 - every failure is an answer
            reply = "error " + " ".join(f"{type(error).__name__}: {error}".split())[:500]
        print(reply, file=replies)


if __name__ == "__main__":
    main()
