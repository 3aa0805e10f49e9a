"""The base of all device types."""


class DeviceException(Exception):
    """How a method tells its caller that it failed. `code`: a grpc.StatusCode."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


class DeviceManager:
    """One type of device. A method that is not overridden answers UNIMPLEMENTED. Methods run in threads of their own,
    side by side for different devices, and must be harmless when repeated."""

    def __init__(self, name, protocol, client, allow_delete_volumes=False):
        """`name`: in the configuration. `protocol`: the case of CreateDeviceRequest.params that it serves. `client()`:
        a context manager, with call(method, params). `allow_delete_volumes`: whether a device may be deleted with
        volumes attached."""
        self.name = name
        self.protocol = protocol
        self.allow_delete_volumes = allow_delete_volumes
        self._client = client

    def init(self, config):
        """Makes ready what all devices need. `config`: `params` of the configuration. Called again after the connection
        to the target was lost."""

    def create_device(self, request):
        """A CreateDeviceResponse with the handle of the device, which may be there already. A volume in the request is
        connected."""
        raise NotImplementedError()

    def delete_device(self, request):
        raise NotImplementedError()

    def attach_volume(self, request):
        """The volume is connected."""
        raise NotImplementedError()

    def detach_volume(self, request):
        raise NotImplementedError()

    def owns_device(self, handle):
        """Whether a device that the agent has no record of is one of this type."""
        raise NotImplementedError()

    def set_qos(self, request):
        raise NotImplementedError()

    def get_qos_capabilities(self, request):
        raise NotImplementedError()
