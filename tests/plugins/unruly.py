# SPDX-License-Identifier: Apache-2.0
"""A device type whose behaviour for a device is determined by its physical id."""

import sys
import time

import grpc
from spdk.sma import DeviceException, DeviceManager
from spdk.sma.proto import sma_pb2

GOOD, RAISES, HANGS, GIVES_NONE, GIVES_TEXT, EXITS, REFUSES, WITHOUT_HANDLE, CALLS_NOTHING_KNOWN, BAD_CODE = range(10)


class UnrulyDevice(DeviceManager):
    def __init__(self, client):
        super().__init__("unruly", "nvme", client)

    def create_device(self, request):
        what = request.nvme.physical_id % 100
        if what == RAISES:
            raise KeyError("a mistake of the plugin")
        if what == HANGS:
            while True:
                time.sleep(0.05)
        if what == GIVES_NONE:
            return None
        if what == GIVES_TEXT:
            return "unruly:3"
        if what == EXITS:
            sys.exit(1)
        if what == REFUSES:
            raise DeviceException(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more of these")
        if what == WITHOUT_HANDLE:
            return sma_pb2.CreateDeviceResponse()
        if what == CALLS_NOTHING_KNOWN:
            with self._client() as client:
                client.call("no_such_method", {"a": 1})
        if what == BAD_CODE:
            raise DeviceException("nonsense", "a code that is none")
        return sma_pb2.CreateDeviceResponse(handle=f"unruly:{request.nvme.physical_id}")

    def owns_device(self, handle):
        return handle.startswith("unruly:")


devices = [UnrulyDevice]
