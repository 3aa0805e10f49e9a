# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions: tests do not sleep for a fixed time."""

import time


def wait_until(condition, timeout_s=10.0, what="condition", interval_s=0.01):
    """Calls `condition` until its result is true and returns that. Raises TimeoutError after `timeout_s`. An OSError
    (except ChildProcessError) or an AssertionError raised by it counts as false, and is reported with the timeout."""
    deadline = time.monotonic() + timeout_s
    last = None
    while True:
        try:
            if result := condition():
                return result
            last = None
        except ChildProcessError:
            raise
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not so after {timeout_s} s" + (f" ({last})" if last else ""))
        time.sleep(interval_s)
        interval_s = min(interval_s * 1.5, 0.25)
