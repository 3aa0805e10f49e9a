# SPDX-License-Identifier: Apache-2.0
"""sma-target starts with what save_config of a real SPDK target wrote, and with what it saves itself."""

import json

import recordings
from harness.target import Target

HA = "nqn.2016-06.io.spdk:ha"


def saved_by_spdk():
    calls = recordings.read("saved_config")
    return {"subsystems": [{"subsystem": call.params["name"], "config": call.answer["result"]}
                           for call in calls if call.method == "framework_get_config"]}


def save(target):
    return {"subsystems": [{"subsystem": entry["subsystem"],
                            "config": target.call("framework_get_config", name=entry["subsystem"])}
                           for entry in target.call("framework_get_subsystems")]}


def start(bin_dir, work_dir, config, name):
    path = work_dir / f"{name}.json"
    path.write_text(json.dumps(config))
    return Target(bin_dir, work_dir, ["-c", path], name=name)


def test_what_a_real_target_saved_is_loaded_and_saved_again(bin_dir, work_dir):
    with start(bin_dir, work_dir, saved_by_spdk(), "spdk") as target:
        bdevs = {bdev["name"] for bdev in target.call("bdev_get_bdevs")}
        assert bdevs == {"H1", "H2", "H3", "ST", "77777777-1111-4222-8333-444444444444"}
        nqns = {subsystem["nqn"] for subsystem in target.call("nvmf_get_subsystems")}
        assert nqns == {"nqn.2014-08.org.nvmexpress.discovery", "nqn.2016-06.io.spdk:lv",
                        "nqn.2016-06.io.spdk:noana", "nqn.2016-06.io.spdk:st"}
        log = target.process.log()
        for skipped in ("subsystem fsdev is skipped", "subsystem keyring is skipped",
                        f"nvmf_create_subsystem of {HA} is skipped: parameter ana_reporting",
                        f"nvmf_subsystem_add_host of {HA} is skipped: {HA} was skipped"):
            assert skipped in log
        first = save(target)
    with start(bin_dir, work_dir, first, "own") as target:
        assert save(target) == first
        assert "skipped" not in target.process.log()


def test_encrypted_bdevs_are_left_out_with_what_needs_them(bin_dir, work_dir):
    nqn = "nqn.2016-06.io.spdk:crypto"
    with Target(bin_dir, work_dir, name="before") as target:
        target.call("bdev_malloc_create", name="base", num_blocks=4096, block_size=512)
        target.call("accel_crypto_key_create", name="k", cipher="AES_XTS", key="0" * 32, key2="1" * 32)
        target.call("bdev_crypto_create", name="layer", base_bdev_name="base", key_name="k")
        target.call("bdev_passthru_create", name="above", base_bdev_name="layer")
        target.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
        target.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": "above"})
        saved = save(target)
    assert "0" * 32 not in json.dumps(saved)
    with start(bin_dir, work_dir, saved, "after") as target:
        assert {bdev["name"] for bdev in target.call("bdev_get_bdevs")} == {"base"}
        assert target.subsystem(nqn)["namespaces"] == []
        for name in ("bdev_crypto_create of layer is skipped: Key was not found",
                     "bdev_passthru_create of above is skipped: layer was skipped",
                     f"nvmf_subsystem_add_ns of {nqn} is skipped: above was skipped"):
            assert name in target.process.log()
