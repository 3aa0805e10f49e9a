# SPDX-License-Identifier: Apache-2.0
"""A device type with limits: those of a volume are set on the target, those of a device are only reported."""

import logging

from shapes import MemoryDevice
from spdk.sma.qos import set_volume_bdev_qos


class LimitedDevice(MemoryDevice):
    def __init__(self, client):
        super().__init__(client, "limited", "nvme")

    def set_qos(self, request):
        self._volumes_of(request.device_handle)
        if not request.volume_id:
            logging.info("%s may do %d", request.device_handle, request.maximum.rw_iops)
            return
        with self._client() as client:
            set_volume_bdev_qos(client, request)


devices = [LimitedDevice]
