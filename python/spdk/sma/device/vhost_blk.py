# SPDX-License-Identifier: Apache-2.0
from .built_in import BuiltInDeviceManager


class VhostBlkDeviceManager(BuiltInDeviceManager):
    """The agent's device type `vhost_blk`."""

    def __init__(self, client):
        super().__init__("vhost_blk", "virtio_blk", client)
