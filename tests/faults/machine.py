"""A machine that lacks something, for one process."""

import resource
from pathlib import Path


def little_memory(mib):
    """Leave this process so much address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
