"""Models and data of the bundle: what the notebooks import. Importing it only tells the C library to keep freed memory.

glibc hands large blocks back to the system when they are freed, and the next batch, or the next recording decoded,
would fault all their pages in again, one by one. Other C libraries are left alone.
"""

import ctypes
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h

with suppress(OSError, AttributeError, TypeError):
    ctypes.CDLL(None).mallopt(TRIM_THRESHOLD, 2**30)
    ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 2**25)  # the most that it takes
