"""What many callers did at the same time, and which end states that allows.

A call has a beginning and an end, and takes effect in between or, when it was not answered with success, perhaps not at
all. So a state may stand in the end when some call that brings it about was not over before one that certainly ended it
began."""

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
        """Whether it brings the volume to the device; volume None: the device about."""
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
        """Whether the device may exist in the end, or the volume be on it."""
        def ends_it(call):
            if call.removes(device, volume):
                return True
            # A volume is on one device: success elsewhere says that it is not here.
            return volume is not None and call.volume == volume and call.device != device and call.kind != "detach"
        last_end = max((call.begun for call in self.calls if call.succeeded and ends_it(call)), default=float("-inf"))
        return any(call.ended >= last_end for call in self.calls if call.puts(device, volume))

    def may_be_absent(self, device, volume=None):
        """Whether the device may be missing in the end, or the volume not be on it."""
        last_removal = max((call.ended for call in self.calls if call.removes(device, volume)), default=float("-inf"))
        return all(call.begun < last_removal for call in self.calls if call.succeeded and call.puts(device, volume))
