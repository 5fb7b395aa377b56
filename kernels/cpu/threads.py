"""How CPU kernels share work among threads. Threads decide who computes an element, never how.

numba takes the TBB that Paddle brings, else OpenMP. GNU OpenMP waits for a late thread by spinning for
milliseconds, on the very core that thread needs when another process is busy: a call of 20 us was seen to
take 8 ms. A short spin costs nothing on an idle machine and a sleep on a busy one.
"""

import os

from numba import njit

# read when libgomp is loaded, which is at the first parallel kernel; what the user set stays
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

shared = njit(cache=True, fastmath=False, error_model="numpy", nogil=True, parallel=True)
"""How a kernel that shares its work among threads is compiled: `compiled` of portable.py, with prange."""
