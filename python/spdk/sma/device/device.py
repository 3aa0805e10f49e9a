# SPDX-License-Identifier: Apache-2.0
"""The base class of all device types."""


class DeviceException(Exception):
    """Raised by a method to return an error to the caller. `code` is a grpc.StatusCode."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


class DeviceManager:
    """A device type. A method that is not overridden returns UNIMPLEMENTED. Methods run in separate threads,
    concurrently for different devices, and must be idempotent."""

    def __init__(self, name, protocol, client, allow_delete_volumes=False):
        """`name` is the type's name in the configuration. `protocol` is the field of CreateDeviceRequest.params that it
        serves. `client()` returns a context manager with call(method, params). `allow_delete_volumes` is true if a
        device may be deleted while volumes are attached."""
        self.name = name
        self.protocol = protocol
        self.allow_delete_volumes = allow_delete_volumes
        self._client = client

    def init(self, config):
        """Sets up what all devices need. `config` is `params` from the configuration. Called again after each reconnect
        to the target."""

    def create_device(self, request):
        """Returns a CreateDeviceResponse with the handle of the device, which may already exist. The volume in the
        request is already connected."""
        raise NotImplementedError()

    def delete_device(self, request):
        raise NotImplementedError()

    def attach_volume(self, request):
        """Attaches a volume, which the agent has connected."""
        raise NotImplementedError()

    def detach_volume(self, request):
        raise NotImplementedError()

    def owns_device(self, handle):
        """Returns true if a device that is not in the agent's record is of this type."""
        raise NotImplementedError()

    def set_qos(self, request):
        raise NotImplementedError()

    def get_qos_capabilities(self, request):
        raise NotImplementedError()
