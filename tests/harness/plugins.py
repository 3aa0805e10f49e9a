# SPDX-License-Identifier: Apache-2.0
"""The Python plugins of tests/plugins in sma, and helpers for their tests."""

import pathlib

import grpc

from harness import wire
from harness.agent import start_sma

PLUGINS = pathlib.Path(__file__).resolve().parents[1] / "plugins"
ENVIRONMENT = {"PYTHONPATH": str(PLUGINS), "SMA_LOGLEVEL": "debug"}


def start(bin_dir, work_dir, target, plugins=(), devices=(), env=None, **config):
    """Starts sma. `devices`: names, or entries of the configuration."""
    entries = [{"name": d} if isinstance(d, str) else d for d in devices]
    return start_sma(bin_dir, work_dir, env={**ENVIRONMENT, **(env or {})}, socket=str(target.socket),
                     plugins=list(plugins), devices=entries, **config)


def code_of(call):
    """Returns the name of the status code of a call."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def device_request(protocol, physical_id, volume=None, virtual_id=0):
    request = wire.sma.CreateDeviceRequest()
    params = getattr(request, protocol)
    params.physical_id = physical_id
    params.virtual_id = virtual_id
    params.SetInParent()
    if volume is not None:
        request.volume.volume_id = volume.bytes
    return request


def create(agent, protocol, physical_id, volume=None, virtual_id=0, timeout=20):
    """Returns the handle."""
    request = device_request(protocol, physical_id, volume, virtual_id)
    return agent.client.stub.CreateDevice(request, timeout=timeout).handle


def set_qos(agent, handle, volume=None, keep=False, **limits):
    """`keep`: limits that are not given remain unchanged."""
    request = wire.sma.SetQosRequest(device_handle=handle, volume_id=volume.bytes if volume else b"")
    if keep:
        limits = {**dict.fromkeys(wire.sma.QosLimit.DESCRIPTOR.fields_by_name, 2**64 - 1), **limits}
    request.maximum.SetInParent()
    for name, value in limits.items():
        setattr(request.maximum, name, value)
    agent.client.stub.SetQos(request, timeout=20)
