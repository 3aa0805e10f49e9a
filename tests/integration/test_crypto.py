# SPDX-License-Identifier: Apache-2.0
"""Tests encrypted volumes: the data on the disk, which keys decrypt them, restarts, and where keys must not appear."""

import base64
import pathlib
import resource
import signal
import uuid

import grpc
import pytest

from harness import wire, xts
from harness.agent import free_port, start_reference, start_sma
from harness.memory import count_in_memory
from harness.nvme_tcp import NvmeTcpHost
from harness.process import Process
from harness.rpc_proxy import RpcProxy
from harness.target import Target
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:encrypted"
KEY, KEY2 = "00112233445566778899AABBCCDDEEFF", "a0b1c2d3e4f5061728394a5b6c7d8e9f"
OTHER_KEY = "0f" * 16
SEALING_KEY = "5e" * 16 + "a1" * 16
MODES = ["SIMPLE_LBA", "JOIN_NEG_LBA_WITH_LBA", "INCR_512_FULL_LBA", "INCR_512_UPPER_LBA"]
BLOCKS = 9
FIRST_LBA = 5


def crypto(key=KEY, key2=KEY2, cipher="AES_XTS", mode="SIMPLE_LBA"):
    return wire.sma.VolumeCryptoParameters(key=key.encode(), key2=key2.encode(), cipher=cipher,
                                           tweak_mode=f"TWEAK_MODE_{mode}")


def pattern(block_size, seed=0):
    """Returns blocks with different contents."""
    return b"".join(bytes([seed, block]) * (block_size // 2) for block in range(BLOCKS))


class Setup:
    """An agent with encryption, its target, and a device without volumes."""

    def __init__(self, bin_dir, work_dir, sealed=True, arguments=(), **config):
        self.work_dir = work_dir
        self.target = Target(bin_dir, work_dir, arguments)
        if sealed:
            key_file = work_dir / "sealing.key"
            key_file.write_text(SEALING_KEY)
            key_file.chmod(0o400)
            config["sealing_key"] = {"file": str(key_file)}
        self.agent = start_sma(bin_dir, work_dir, socket=str(self.target.socket), crypto={"name": "bdev_crypto"},
                               **config)
        self.port = free_port()
        self.handle = self.client.create_nvmf_tcp(NQN, self.port, allow_any_host=True)

    @property
    def client(self):
        return self.agent.client

    def attach(self, volume, **parameters):
        self.client.attach_volume(self.handle, volume, crypto=crypto(**parameters))

    def refusal(self, volume, parameters):
        with pytest.raises(grpc.RpcError) as raised:
            self.client.attach_volume(self.handle, volume, crypto=parameters)
        return raised.value.code()

    def host(self, block_size=4096):
        return NvmeTcpHost(self.port, NQN, block_size=block_size)

    def state(self, volume):
        request = wire.admin.GetVolumeRequest(volume_id=volume.bytes)
        volume = wire.admin_grpc.AdminStub(self.client.channel).GetVolume(request)
        return wire.admin.State.Name(volume.state)

    def wait_for_state(self, volume, state):
        wait_until(lambda: self.state(volume) == state, 20, f"volume is {state}")

    def is_exported(self):
        subsystem = self.target.subsystem(NQN)
        return subsystem is not None and subsystem["namespaces"] and subsystem["listen_addresses"]

    def on_disk(self, volume, block_size):
        with open(self.target.volume_file(volume), "rb") as file:
            file.seek(FIRST_LBA * block_size)
            return file.read(BLOCKS * block_size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.agent.stop()
        self.target.stop()


@pytest.fixture
def setup(bin_dir, work_dir):
    with Setup(bin_dir, work_dir) as running:
        yield running


@pytest.mark.parametrize("block_size", [512, 4096])
def test_the_disk_holds_the_ciphertext_of_openssl(setup, block_size):
    volume = setup.target.make_file_volume(size_mib=8, block_size=block_size)
    for number, mode in enumerate(MODES):
        plain = pattern(block_size, number + 1)
        setup.attach(volume, mode=mode)
        with setup.host(block_size) as host:
            host.write(FIRST_LBA, plain)
            assert host.read(FIRST_LBA, BLOCKS) == plain
        expected = xts.encrypt_blocks(bytes.fromhex(KEY + KEY2), mode, FIRST_LBA, plain, block_size)
        assert setup.on_disk(volume, block_size) == expected, mode
        setup.client.detach_volume(setup.handle, volume)
        setup.attach(volume, mode=mode)
        with setup.host(block_size) as host:
            assert host.read(FIRST_LBA, BLOCKS) == plain, "after a new attach"
        setup.client.detach_volume(setup.handle, volume)
    assert setup.target.call("accel_crypto_keys_get") == []


def test_attaching_takes_two_round_trips(bin_dir, work_dir):
    with Target(bin_dir, work_dir, ["--rpc-delay-ms", "8"]) as target, \
            RpcProxy(target.socket, work_dir / "proxy.sock") as proxy, \
            start_sma(bin_dir, work_dir, socket=str(proxy.path), crypto={"name": "bdev_crypto"}) as agent:
        volume = target.make_malloc_volume(size_mib=8)
        handle = agent.client.create_nvmf_tcp(NQN, free_port())
        for mode in MODES:
            proxy.reset()
            agent.client.attach_volume(handle, volume, crypto=crypto(mode=mode))
            assert proxy.round_trips == 2, mode
            assert [n["bdev_name"] for n in target.subsystem(NQN)["namespaces"]] == [f"sma-crypto-{volume}"]
            agent.client.detach_volume(handle, volume)


def test_keys_of_256_bits_and_cbc(setup):
    for parameters in ({"key": KEY + KEY2, "key2": KEY2 + KEY}, {"cipher": "AES_CBC", "key2": ""}):
        volume = setup.target.make_file_volume(size_mib=8)
        setup.attach(volume, **parameters)
        with setup.host() as host:
            host.write(FIRST_LBA, pattern(4096))
            assert host.read(FIRST_LBA, BLOCKS) == pattern(4096)
        assert pattern(4096)[:16] not in setup.on_disk(volume, 4096)
        setup.client.detach_volume(setup.handle, volume)


def test_different_parameters_are_refused_without_side_effects(setup):
    volume = setup.target.make_file_volume(size_mib=8)
    setup.attach(volume)
    with setup.host() as host:
        host.write(FIRST_LBA, pattern(4096))
        before = setup.on_disk(volume, 4096)
        for parameters in (crypto(key=OTHER_KEY), crypto(key2=OTHER_KEY), crypto(key2=""), crypto(mode=MODES[2]),
                           crypto(cipher="AES_CBC", key2=""), crypto(key="xyz"), crypto(key=""), None):
            assert setup.refusal(volume, parameters) == grpc.StatusCode.INVALID_ARGUMENT
        setup.attach(volume, key=KEY.lower(), key2=KEY2.upper())
        assert host.read(FIRST_LBA, BLOCKS) == pattern(4096)
    assert setup.on_disk(volume, 4096) == before
    # The disk does not identify the key: with a wrong one, a new attach succeeds and reads return other data.
    setup.client.detach_volume(setup.handle, volume)
    setup.attach(volume, key=OTHER_KEY)
    with setup.host() as host:
        assert host.read(FIRST_LBA, BLOCKS) != pattern(4096)
    assert setup.on_disk(volume, 4096) == before


def test_an_unencrypted_volume_is_not_taken_for_an_encrypted_one(setup):
    volume = setup.target.make_file_volume(size_mib=8)
    setup.client.attach_volume(setup.handle, volume)
    assert setup.refusal(volume, crypto()) == grpc.StatusCode.INVALID_ARGUMENT
    with setup.host() as host:
        host.write(FIRST_LBA, pattern(4096))
    assert setup.on_disk(volume, 4096) == pattern(4096)


def test_the_base_is_removed_and_reappears(setup):
    volume = setup.target.make_file_volume(size_mib=8)
    setup.attach(volume, key=OTHER_KEY)
    setup.target.call("bdev_aio_delete", name=f"file-{volume.hex[:8]}")
    setup.client.detach_volume(setup.handle, volume)
    setup.target.make_file_volume(size_mib=8, volume=volume)
    setup.attach(volume)
    with setup.host() as host:
        host.write(FIRST_LBA, pattern(4096))
    expected = xts.encrypt_blocks(bytes.fromhex(KEY + KEY2), MODES[0], FIRST_LBA, pattern(4096), 4096)
    assert setup.on_disk(volume, 4096) == expected, "not by the key of the earlier attach"
    setup.target.call("bdev_aio_delete", name=f"file-{volume.hex[:8]}")
    setup.target.make_file_volume(size_mib=8, volume=volume)
    setup.attach(volume)
    with setup.host() as host:
        assert host.read(FIRST_LBA, BLOCKS) == pattern(4096)


@pytest.mark.parametrize("sealed", [True, False])
def test_restarts(bin_dir, work_dir, sealed):
    with Setup(bin_dir, work_dir, sealed=sealed) as setup:
        volume = setup.target.make_file_volume(size_mib=8)
        setup.attach(volume)
        with setup.host() as host:
            host.write(FIRST_LBA, pattern(4096))
            setup.agent.kill()
            setup.agent.start()
            setup.wait_for_state(volume, "STATE_READY")
            assert host.read(FIRST_LBA, BLOCKS) == pattern(4096), "the host does not notice"
            assert setup.refusal(volume, crypto(key=OTHER_KEY)) == grpc.StatusCode.INVALID_ARGUMENT
            setup.attach(volume)
            assert host.read(FIRST_LBA, BLOCKS) == pattern(4096)

        setup.target.kill()
        setup.target.start()
        setup.target.make_file_volume(size_mib=8, volume=volume)
        if not sealed:
            setup.wait_for_state(volume, "STATE_KEY_NEEDED")
            assert setup.target.subsystem(NQN)["namespaces"] == [], "never in clear"
            assert setup.refusal(volume, crypto(key=OTHER_KEY)) == grpc.StatusCode.INVALID_ARGUMENT
            setup.attach(volume)
        wait_until(setup.is_exported, 20, "the device is back")
        setup.wait_for_state(volume, "STATE_READY")
        with setup.host() as host:
            assert host.read(FIRST_LBA, BLOCKS) == pattern(4096)


def test_an_operator_sees_how_a_volume_is_encrypted(setup):
    volume = setup.target.make_file_volume(size_mib=8)
    setup.attach(volume, mode=MODES[2])
    request = wire.admin.GetVolumeRequest(volume_id=volume.bytes)
    shown = wire.admin_grpc.AdminStub(setup.client.channel).GetVolume(request)
    assert shown.encryption.engine == "bdev_crypto"
    assert shown.encryption.cipher == wire.sma.VolumeCryptoParameters.AES_XTS
    assert wire.sma.VolumeCryptoParameters.TweakMode.Name(shown.encryption.tweak_mode) == f"TWEAK_MODE_{MODES[2]}"


def forms(key):
    """Returns the forms in which a key may be written."""
    raw = bytes.fromhex(key)
    return [key.lower().encode(), key.upper().encode(), raw, base64.b64encode(raw), base64.b64encode(key.encode())]


def make_folder(path):
    path.mkdir()
    return path


def files_with(folder, needles):
    found = []
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file() and path.name != "sealing.key":
            content = path.read_bytes()
            found += [path for needle in needles if needle in content]
    return found


def test_keys_are_in_no_log_configuration_record_or_core(bin_dir, work_dir, monkeypatch):
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
    monkeypatch.setenv("SMA_LOGLEVEL", "trace")
    setup = Setup(bin_dir, work_dir, arguments=["--log-level", "trace"])
    volume, other = (setup.target.make_file_volume(size_mib=8) for _ in range(2))
    setup.attach(volume)
    setup.attach(other, mode=MODES[1])
    setup.refusal(volume, crypto(key=OTHER_KEY))
    (work_dir / "saved.json").write_text(str(setup.target.call("framework_get_config", name="bdev")) +
                                         str(setup.target.call("framework_get_config", name="accel")))
    # After crashes: core files, if the kernel writes any, and the state folder as it was at that moment.
    other_program = Process("other", ["sleep", "60"], make_folder(work_dir / "other"))
    for process in (setup.agent.process, setup.target.process, other_program):
        process.signal(signal.SIGABRT)
        assert process.wait() == -signal.SIGABRT
    if pathlib.Path("/proc/sys/kernel/core_pattern").read_text()[0] not in "/|" and limit[1] != 0:
        assert list((work_dir / "other").glob("core*")), "this machine leaves cores"
        assert not list(work_dir.glob("core*"))
    resource.setrlimit(resource.RLIMIT_CORE, limit)
    keys = [form for key in (KEY, KEY2, OTHER_KEY, SEALING_KEY) for form in forms(key)]
    assert files_with(work_dir, [str(volume).encode()]), "the search finds what is there"
    assert files_with(work_dir, keys) == []
    setup.client.close()


def attach_with_chap(setup, secret):
    """Attaches through a portal on which nothing listens, which fails."""
    request = wire.sma.AttachVolumeRequest(device_handle=setup.handle)
    request.volume.volume_id = uuid.uuid4().bytes
    iscsi = request.volume.iscsi
    iscsi.portal, iscsi.target_iqn, iscsi.initiator_iqn = f"127.0.0.1:{free_port()}", "iqn.2024-01.com.x:t", "iqn.x:i"
    iscsi.chap.user, iscsi.chap.secret = "user", secret
    with pytest.raises(grpc.RpcError):
        setup.client.stub.AttachVolume(request, timeout=60)


def test_keys_of_a_detached_volume_are_not_in_the_agents_memory(setup):
    """Neither are the keys of a refused attach; the connection that carried them is still open."""
    volume, other = (setup.target.make_file_volume(size_mib=8) for _ in range(2))
    keys = [uuid.uuid4().hex for _ in range(4)]
    secret = uuid.uuid4().hex[:16]
    needles = [form for key in keys for form in forms(key)] + [secret.encode()]
    attach_with_chap(setup, secret)
    setup.attach(volume, key=keys[0], key2=keys[1])
    setup.attach(other, key=keys[2])
    setup.refusal(volume, crypto(key=keys[3]))
    for attached in (volume, other):
        setup.client.detach_volume(setup.handle, attached)
    setup.client.delete_device(setup.handle)
    assert count_in_memory(setup.agent.process.pid, [NQN.encode()])[NQN.encode()], "the search finds what is there"

    def left():
        return {needle: count for needle, count in count_in_memory(setup.agent.process.pid, needles).items() if count}

    wait_until(lambda: not left(), 15, f"no key is left: {left()}")


def test_the_reference_agent_encrypts_on_sma_target(bin_dir, work_dir):
    with Target(bin_dir, work_dir) as target, \
            start_reference(work_dir, socket=str(target.socket), crypto={"name": "bdev_crypto"}) as agent:
        volume, port = target.make_file_volume(size_mib=8), free_port()
        handle = agent.client.create_nvmf_tcp(NQN, port, allow_any_host=True)
        for _ in range(2):
            agent.client.attach_volume(handle, volume, crypto=crypto())
        with NvmeTcpHost(port, NQN) as host:
            host.write(FIRST_LBA, pattern(4096))
            assert host.read(FIRST_LBA, BLOCKS) == pattern(4096)
        with open(target.volume_file(volume), "rb") as file:
            file.seek(FIRST_LBA * 4096)
            assert file.read(BLOCKS * 4096) == xts.encrypt_blocks(bytes.fromhex(KEY + KEY2), MODES[0], FIRST_LBA,
                                                                  pattern(4096), 4096)
        with pytest.raises(grpc.RpcError) as raised:
            agent.client.attach_volume(handle, volume, crypto=crypto(key=OTHER_KEY))
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        agent.client.detach_volume(handle, volume)
        agent.client.delete_device(handle)
        assert target.call("accel_crypto_keys_get") == []
