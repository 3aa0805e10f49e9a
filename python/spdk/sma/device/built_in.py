# SPDX-License-Identifier: Apache-2.0
"""The agent's own device types, as base classes for plugins."""

import json

import grpc

from ..proto import sma_pb2
from .device import DeviceException, DeviceManager

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class BuiltInDeviceManager(DeviceManager):
    """Forwards each call to the agent's own device type. Works only in the agent. A method raises DeviceException with
    the status that the agent would return."""

    def __init__(self, built_in, protocol, client):
        super().__init__(built_in, protocol, client, allow_delete_volumes=True)
        self._built_in = built_in
        self._manager = None

    def _pass(self, method, request):
        if self._manager is None:
            raise DeviceException(grpc.StatusCode.FAILED_PRECONDITION, f"{self._built_in}: init was not called")
        code, message, answer = self._manager.call(method, request)
        if code != 0:
            raise DeviceException(_STATUS_CODES[code], message)
        return answer

    def init(self, config):
        import _sma_agent
        self._manager = _sma_agent.BuiltIn(self._built_in, json.dumps(config or {}))
        self._pass("init", b"")

    def create_device(self, request):
        return sma_pb2.CreateDeviceResponse.FromString(self._pass("create_device", request.SerializeToString()))

    def delete_device(self, request):
        self._pass("delete_device", request.SerializeToString())

    def attach_volume(self, request):
        self._pass("attach_volume", request.SerializeToString())

    def detach_volume(self, request):
        self._pass("detach_volume", request.SerializeToString())

    def owns_device(self, handle):
        return self._pass("owns_device", handle.encode()) != b""

    def set_qos(self, request):
        self._pass("set_qos", request.SerializeToString())

    def get_qos_capabilities(self, request):
        return sma_pb2.GetQosCapabilitiesResponse.FromString(self._pass("get_qos_capabilities", b""))
