# SPDX-License-Identifier: Apache-2.0
"""Tests that the reference agent, spdk-sma, works with sma-target as it does with SPDK."""

import grpc
import pytest

from harness.agent import free_port

NQN = "nqn.2016-06.io.spdk:reference"


def test_the_main_use_case(reference, target):
    client, port = reference.client, free_port()
    volume, other = target.make_malloc_volume(), target.make_malloc_volume()
    handle = client.create_nvmf_tcp(NQN, port, allow_any_host=True, volume=volume)
    client.attach_volume(handle, other)
    subsystem = target.subsystem(NQN)
    assert [n["uuid"] for n in subsystem["namespaces"]] == [str(volume), str(other)]
    assert subsystem["listen_addresses"][0]["trsvcid"] == str(port)
    client.detach_volume(handle, volume)
    client.detach_volume(handle, other)
    client.delete_device(handle)
    assert target.subsystem(NQN) is None


def test_a_repeated_create_of_a_device_with_hosts_is_an_error_as_on_spdk(reference, target):
    """Since SPDK 24.09, adding a host that is already allowed is an error; the reference agent then deletes the
    device."""
    client, port, host = reference.client, free_port(), "nqn.2014-08.org.example:host"
    client.create_nvmf_tcp(NQN, port, hosts=[host])
    with pytest.raises(grpc.RpcError) as raised:
        client.create_nvmf_tcp(NQN, port, hosts=[host])
    assert raised.value.code() == grpc.StatusCode.INTERNAL
    assert target.subsystem(NQN) is None
