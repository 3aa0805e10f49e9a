# SPDX-License-Identifier: Apache-2.0
"""The history of concurrent calls, and the final states that it allows.

A call has a start and an end, and takes effect in between or, if it did not succeed, possibly not at all. A final state
is allowed if a call that causes it was not completed before the start of a call that certainly ended it."""

import dataclasses
import threading
import time


@dataclasses.dataclass
class Call:
    kind: str  # "create", "delete", "attach", "detach"
    device: int
    volume: int = None
    begun: float = 0.0
    ended: float = float("inf")
    succeeded: bool = False

    def puts(self, device, volume):
        """Returns true if the call attaches the volume to the device or, with volume None, creates the device."""
        if volume is None:
            return self.kind == "create" and self.device == device
        return self.kind in ("create", "attach") and self.device == device and self.volume == volume

    def removes(self, device, volume):
        if self.device != device:
            return False
        return self.kind == "delete" or (volume is not None and self.kind == "detach" and self.volume == volume)


class History:
    def __init__(self):
        self._lock = threading.Lock()
        self.calls = []

    def begin(self, kind, device, volume=None):
        call = Call(kind, device, volume, begun=time.monotonic())
        with self._lock:
            self.calls.append(call)
        return call

    def end(self, call, succeeded):
        call.succeeded = succeeded
        call.ended = time.monotonic()

    def may_be(self, device, volume=None):
        """Returns true if the device may exist in the end, or the volume may be attached to it."""
        def ends_it(call):
            if call.removes(device, volume):
                return True
            # A volume is attached to one device only: a successful attach to another device ends this attachment.
            return volume is not None and call.volume == volume and call.device != device and call.kind != "detach"
        last_end = max((call.begun for call in self.calls if call.succeeded and ends_it(call)), default=float("-inf"))
        return any(call.ended >= last_end for call in self.calls if call.puts(device, volume))

    def may_be_absent(self, device, volume=None):
        """Returns true if the device may be missing in the end, or the volume may not be attached to it."""
        last_removal = max((call.ended for call in self.calls if call.removes(device, volume)), default=float("-inf"))
        return all(call.begun < last_removal for call in self.calls if call.succeeded and call.puts(device, volume))
