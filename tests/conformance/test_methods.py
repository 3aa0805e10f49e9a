# SPDX-License-Identifier: Apache-2.0
"""The methods that sma-target serves have the parameters of SPDK's methods (spdk-rpc/methods-26.09.json), and an SPDK
client of that version may send each of them."""

import json

import pytest

import recordings
from harness.target import Target

METHODS = json.loads((recordings.RECORDINGS / "methods-26.09.json").read_text())

# Methods that accept any parameters, because they have no effect here.
WITHOUT_EFFECT = {
    "accel_set_options", "bdev_nvme_set_hotplug", "bdev_raid_set_options", "bdev_set_options",
    "framework_disable_cpumask_locks", "framework_enable_cpumask_locks", "framework_get_pci_devices",
    "framework_get_scheduler", "framework_set_scheduler", "iobuf_get_stats", "iobuf_set_options", "iscsi_set_options",
    "nvmf_set_crdt", "scheduler_set_options", "sock_get_default_impl", "sock_impl_set_options",
    "sock_set_default_impl", "vmd_enable",
}
# Parameters that SPDK 26.09 does not have, and why they are accepted.
ADDED = {
    ("bdev_nvme_set_multipath_policy", "min_io"),  # the name in other versions
    ("bdev_nvme_set_options", "retry_count"),  # earlier versions
    ("nvmf_create_subsystem", "max_discard_size_kib"),  # earlier versions
    ("nvmf_create_subsystem", "max_write_zeroes_size_kib"),  # earlier versions
    ("nvmf_create_transport", "disable_msix"),  # chooses MSI for vfio-user functions
    ("nvmf_discovery_remove_referral", "secure_channel"),  # earlier versions
    ("rpc_get_methods", "include_parameters"),  # what this test uses
}
# SPDK decodes the parameters of these methods relaxed: it ignores members that it does not know.
RELAXED = {
    "nvmf_create_transport", "nvmf_subsystem_add_listener", "nvmf_discovery_add_referral", "nvmf_subsystem_add_ns",
    "nvmf_subsystem_add_host", "vhost_create_blk_controller",
}


@pytest.fixture(scope="module")
def target(bin_dir, module_work_dir):
    with Target(bin_dir, module_work_dir) as running:
        yield running


@pytest.fixture(scope="module")
def served(target):
    return target.call("rpc_get_methods", include_parameters=True)


def test_all_methods_are_those_of_spdk(served):
    assert len(served) > 90
    assert set(served) <= set(METHODS)


def test_parameters_are_those_of_spdk(served):
    differences = set()
    for method, ours in served.items():
        if method in WITHOUT_EFFECT:
            assert ours == {"parameters": {}, "relaxed": True}, method
            continue
        theirs = METHODS[method]
        assert set(theirs) <= set(ours["parameters"]), method
        differences |= {(method, name) for name in ours["parameters"] if name not in theirs}
        for name, parameter in theirs.items():
            assert ours["parameters"][name]["required"] == parameter.get("required", False), (method, name)
    assert differences == ADDED


def test_unknown_parameters_are_ignored_where_spdk_ignores_them(served):
    assert {method for method, ours in served.items() if ours["relaxed"]} - WITHOUT_EFFECT == RELAXED


def test_a_namespace_is_added_with_the_parameters_of_todays_client(target):
    target.call("bdev_null_create", name="n0", num_blocks=100, block_size=512)
    if not target.call("nvmf_get_transports"):
        target.call("nvmf_create_transport", trtype="TCP", masked_oncs=0, masked_fuses=0)
    target.call("nvmf_create_subsystem", nqn="nqn.2016-06.io.spdk:today", allow_any_host=True)
    namespace = {"bdev_name": "n0", "anagrpid": 1, "no_auto_visible": False, "hide_metadata": False}
    assert target.call("nvmf_subsystem_add_ns", nqn="nqn.2016-06.io.spdk:today", namespace=namespace, new_member=1) == 1


@pytest.mark.parametrize("written", ["2048", "2048.0", "2.048e3"])
def test_integers_may_have_a_fraction_of_zero_or_an_exponent(target, written):
    with target.connect() as client:
        client.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"bdev_null_create","params":'
                        b'{"name":"w","block_size":512,"num_blocks":' + written.encode() + b"}}")
        assert client.receive()["result"] == "w"
    assert target.call("bdev_get_bdevs", name="w")[0]["num_blocks"] == 2048
    target.call("bdev_null_delete", name="w")


def test_what_is_not_supported_is_refused_by_its_name(target):
    cases = [
        ("nvmf_subsystem_add_host", {"nqn": "nqn.2016-06.io.spdk:today", "host": "nqn.2016-06.io.spdk:h"}, "psk", "k"),
        ("nvmf_create_subsystem", {"nqn": "nqn.2016-06.io.spdk:new"}, "ana_reporting", True),
        ("bdev_null_create", {"name": "n1", "num_blocks": 1, "block_size": 512}, "dif_type", 1),
        ("bdev_nvme_attach_controller", {"name": "c", "trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "4420",
                                         "subnqn": "nqn.2016-06.io.spdk:today"}, "dhchap_key", "k"),
    ]
    with target.connect() as client:
        for method, params, name, value in cases:
            client.send(method, {**params, name: value})
            assert client.receive()["error"] == {
                "code": -32602, "message": f"parameter {name}: not supported with this value"}


HA = "nqn.2016-06.io.spdk:ha"
# Calls of the recording nvmf_ha, by their notes, whose answers need nothing that sma-target lacks.
PLAIN = {"not a state", "not a port", "not an address of this machine", "ANA group out of range", "again", "no port",
         "the discovery subsystem", "no part after a colon", "name equals UUID"}
METHODS_MISSING = {"nvmf_ns_add_host", "nvmf_ns_remove_host", "nvmf_subsystem_listener_set_ana_state"}


def plain_calls():
    for call in recordings.read("nvmf_ha"):
        if call.method not in METHODS_MISSING and (call.note in PLAIN or call.method.startswith("nvmf_discovery_")):
            yield call


@pytest.fixture(scope="module")
def ha_target(bin_dir, module_work_dir):
    with Target(bin_dir, module_work_dir, name="ha") as running:
        running.call("bdev_null_create", name="H1", num_blocks=25600, block_size=4096)
        running.call("nvmf_create_transport", trtype="TCP")
        running.call("nvmf_create_subsystem", nqn=HA)
        yield running


@pytest.mark.parametrize("call", list(plain_calls()), ids=lambda call: f"{call.place}-{call.method}")
def test_answer(ha_target, call):
    with ha_target.connect() as client:
        client.send(call.method, call.params)
        answer = client.receive()
    assert not recordings.answer_differences(call, {key: answer[key] for key in ("result", "error") if key in answer})
