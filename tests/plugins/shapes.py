# SPDX-License-Identifier: Apache-2.0
"""Plugins of the usual kinds, as written for the reference agent: each device type keeps its devices in memory, so that
a test can check the calls."""

import logging

import grpc
from spdk.rpc.client import JSONRPCException
from spdk.sma import CryptoEngine, DeviceException, DeviceManager
from spdk.sma.common import format_volume_id
from spdk.sma.proto import sma_pb2
from spdk.sma.qos import get_bdev_qos_capabilities


class MemoryDevice(DeviceManager):
    """A device is a number and has volumes of the target."""

    def __init__(self, client, name, protocol, allow_delete_volumes=False):
        super().__init__(name, protocol, client, allow_delete_volumes)
        self.devices = {}

    def init(self, config):
        self.prefix = (config or {}).get("prefix", self.name)
        with self._client() as client:
            logging.info("%s on target %s", self.name, client.call("spdk_get_version")["version"])

    def _check_volume(self, volume):
        volume_id = format_volume_id(volume.volume_id)
        if volume_id is None:
            raise DeviceException(grpc.StatusCode.INVALID_ARGUMENT, "Invalid volume ID")
        with self._client() as client:
            try:
                client.call("bdev_get_bdevs", {"name": volume_id})
            except JSONRPCException as error:
                raise DeviceException(grpc.StatusCode.NOT_FOUND, "No such volume") from error
        return volume_id

    def _volumes_of(self, handle):
        if handle not in self.devices:
            raise DeviceException(grpc.StatusCode.NOT_FOUND, "No such device")
        return self.devices[handle]

    def create_device(self, request):
        params = getattr(request, self.protocol)
        if params.virtual_id != 0:
            raise DeviceException(grpc.StatusCode.INVALID_ARGUMENT, "Unsupported virtual_id")
        handle = f"{self.prefix}:{params.physical_id}"
        volumes = self.devices.setdefault(handle, set())
        if request.HasField("volume"):
            volumes.add(self._check_volume(request.volume))
        return sma_pb2.CreateDeviceResponse(handle=handle)

    def delete_device(self, request):
        self.devices.pop(request.handle, None)

    def attach_volume(self, request):
        self._volumes_of(request.device_handle).add(self._check_volume(request.volume))

    def detach_volume(self, request):
        self._volumes_of(request.device_handle).discard(format_volume_id(request.volume_id))

    def owns_device(self, handle):
        return handle.startswith(f"{self.prefix}:")

    def set_qos(self, request):
        self._volumes_of(request.device_handle)
        if request.maximum.rd_iops:
            raise DeviceException(grpc.StatusCode.INVALID_ARGUMENT, "Unsupported limit")

    def get_qos_capabilities(self, request):
        return get_bdev_qos_capabilities()


class NvmeDevice(MemoryDevice):
    def __init__(self, client):
        super().__init__(client, "memory_nvme", "nvme")


class BlkDevice(MemoryDevice):
    def __init__(self, client):
        super().__init__(client, "memory_blk", "virtio_blk", allow_delete_volumes=True)


class BareDevice(DeviceManager):
    """Implements only the mandatory methods."""

    def __init__(self, client):
        super().__init__("bare", "nvme", client)

    def own_device(self, handle):
        return handle.startswith("bare:")

    def create_device(self, request):
        return sma_pb2.CreateDeviceResponse(handle=f"bare:{request.nvme.physical_id}")


class OldEngine(CryptoEngine):
    """An engine that was written before tweak modes existed."""

    def __init__(self):
        super().__init__("old_engine")
        self.volumes = {}

    def setup(self, volume_id, key, cipher, key2=None):
        self.volumes[volume_id] = (key, cipher, key2)

    def cleanup(self, volume_id):
        self.volumes.pop(volume_id, None)

    def verify(self, volume_id, key, cipher, key2=None):
        pass

    def get_crypto_bdev(self, volume_id):
        return volume_id if volume_id in self.volumes else None


devices = [NvmeDevice, BlkDevice, BareDevice]
crypto_engines = [OldEngine]
