# SPDX-License-Identifier: Apache-2.0
"""Sets limits of volumes with the target's method bdev_set_qos_limit."""

import grpc

from spdk.rpc.client import JSONRPCException

from .common import format_volume_id
from .proto import sma_pb2
from .volume import get_crypto_engine

# A limit with this value is not changed.
LIMIT_UNDEFINED = (1 << 64) - 1
_MAX_RATE = (1 << 64) - 1

# For each field of QosLimit: the parameter of bdev_set_qos_limit, and the factor between their units.
_LIMITS = {
    "rw_iops": ("rw_ios_per_sec", 1000),
    "rd_bandwidth": ("r_mbytes_per_sec", 1),
    "wr_bandwidth": ("w_mbytes_per_sec", 1),
    "rw_bandwidth": ("rw_mbytes_per_sec", 1),
}


class QosException(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


def set_volume_bdev_qos(client, params):
    """Sets the limits of a SetQosRequest on the bdev of its volume (the crypto bdev if it is encrypted). Nothing
    changes without `maximum`, and for limits with the value LIMIT_UNDEFINED."""
    if not params.HasField("maximum"):
        return
    for field, value in params.maximum.ListFields():
        if field.name not in _LIMITS and value != LIMIT_UNDEFINED:
            raise QosException(grpc.StatusCode.INVALID_ARGUMENT, f"Unsupported QoS limit: maximum.{field.name}")
    limits = {}
    for field, (name, units) in _LIMITS.items():
        value = getattr(params.maximum, field)
        if value == LIMIT_UNDEFINED:
            continue
        if value * units > _MAX_RATE:
            raise QosException(grpc.StatusCode.INVALID_ARGUMENT, f"maximum.{field}: too large")
        limits[name] = value * units
    if not limits:
        return
    volume_id = format_volume_id(params.volume_id)
    bdev = get_crypto_engine().get_crypto_bdev(volume_id) or volume_id
    try:
        client.call("bdev_set_qos_limit", {"name": bdev, **limits})
    except JSONRPCException as error:
        raise QosException(grpc.StatusCode.INTERNAL, "Failed to set QoS") from error


def get_bdev_qos_capabilities():
    """Returns the limits that set_volume_bdev_qos supports, as a GetQosCapabilitiesResponse."""
    response = sma_pb2.GetQosCapabilitiesResponse()
    for field in _LIMITS:
        setattr(response.max_volume_caps, field, True)
    return response
