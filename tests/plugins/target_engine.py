# SPDX-License-Identifier: Apache-2.0
"""A crypto engine as written for the reference agent: the target encrypts, the engine stores the parameters."""

import grpc
from spdk.sma import CryptoEngine, CryptoException


class TargetEngine(CryptoEngine):
    def __init__(self):
        super().__init__("target_engine")
        self._keys = {}

    def init(self, client, params):
        super().init(client, params)
        self._prefix = params.get("prefix", "layer")

    def setup(self, volume_id, key, cipher, key2=None, tweak_mode=None):
        if key2 is None:
            raise CryptoException(grpc.StatusCode.INVALID_ARGUMENT, "Two keys are needed")
        with self._client() as client:
            client.call("bdev_crypto_create", {"name": f"{self._prefix}-{volume_id}", "base_bdev_name": volume_id,
                                               "cipher": "AES_XTS", "key": key, "key2": key2})
        self._keys[volume_id] = (key, key2)

    def verify(self, volume_id, key, cipher, key2=None, tweak_mode=None):
        if self._keys.get(volume_id, (None, None)) != (key, key2):
            raise CryptoException(grpc.StatusCode.INVALID_ARGUMENT, "Encrypted in another way")

    def cleanup(self, volume_id):
        if self._keys.pop(volume_id, None) is not None:
            with self._client() as client:
                client.call("bdev_crypto_delete", {"name": f"{self._prefix}-{volume_id}"})

    def get_crypto_bdev(self, volume_id):
        return f"{self._prefix}-{volume_id}" if volume_id in self._keys else None


crypto_engines = [TargetEngine]
