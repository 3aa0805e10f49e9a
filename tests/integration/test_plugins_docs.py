# SPDX-License-Identifier: Apache-2.0
"""Tests that the steps in docs/plugins.md work, and that a VM can use the native plugin described there."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from harness import wire
from harness.agent import start_sma
from harness.process import Process
from harness.target import Target
from harness.vm import VirtualMachine

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEMORY_MIB = 512


def blocks(section):
    """Returns the code blocks of a section of docs/plugins.md, after those before the first section: language and
    text."""
    start, *sections = re.split(r"^## ", (ROOT / "docs/plugins.md").read_text(), flags=re.MULTILINE)
    text = start + next(s for s in sections if s.startswith(section + "\n"))
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def follow(section, bin_dir, work_dir, **environment):
    """Executes the steps of the section; returns their output."""
    script = ["set -e"]
    for language, text in blocks(section):
        if language == "python":
            (work_dir / re.match(r"# (\S+)", text)[1]).write_text(text)
        else:
            script.append(text)
    path = f"{bin_dir}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=work_dir, text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "PATH": path, **environment})
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def prefix(build_dir, module_work_dir):
    """The prefix in which the headers for plugins are installed."""
    path = module_work_dir / "prefix"
    subprocess.run(["cmake", "--install", build_dir, "--component", "plugin-dev", "--prefix", path], check=True,
                   stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def native_plugin(prefix, module_work_dir):
    """The example, built with the installed files only."""
    source = module_work_dir / "vhost_socket"
    shutil.copytree(ROOT / "examples/vhost_socket", source)
    build = module_work_dir / "build"
    subprocess.run(["cmake", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}"], check=True)
    subprocess.run(["cmake", "--build", build], check=True)
    return build / "vhost_socket.so"


def test_python_as_described(bin_dir, work_dir):
    printed = follow("In Python", bin_dir, work_dir)
    assert re.search(r"vm_socket +device +python +virtio_blk +enabled", printed)
    assert "vm-socket:vm-1" in printed


def test_native_as_described(bin_dir, work_dir, prefix):
    printed = follow("Native", bin_dir, work_dir, SOURCE=str(ROOT), PREFIX=str(prefix))
    assert re.search(r"vhost_socket +device +native +virtio_blk +enabled", printed)
    assert "vhost-socket:7" in printed


def interface_version(prefix):
    header = (prefix / "include/sma-agent/sma/plugin.h").read_text()
    return int(re.search(r"kPluginInterfaceVersion = (\d+);", header).group(1))


def test_another_version_is_refused(bin_dir, work_dir, prefix):
    version = interface_version(prefix)
    source = work_dir / "old.cc"
    source.write_text('#include "sma/plugin.h"\n'
                      'extern "C" __attribute__((visibility("default"))) const sma::Plugin sma_plugin;\n'
                      'extern "C" const sma::Plugin sma_plugin = {sma::kPluginInterfaceVersion + 1, nullptr};\n')
    library = work_dir / "old.so"
    subprocess.run(["g++", "-std=c++20", "-shared", "-fPIC", f"-I{prefix}/include/sma-agent", source, "-o", library],
                   check=True)
    (work_dir / "nothing.cc").write_text("int nothing;\n")
    subprocess.run(["g++", "-shared", "-fPIC", work_dir / "nothing.cc", "-o", work_dir / "nothing.so"], check=True)
    for path, message in ((library, f"was built for version {version + 1} of the plugin interface, "
                                    f"but this agent has version {version}"),
                          (work_dir / "nothing.so", "is not a plugin: it has no symbol sma_plugin"),
                          (work_dir / "missing.so", "cannot open shared object file")):
        config = work_dir / f"{path.stem}.yaml"
        config.write_text(repr({"port": 0, "address": "127.0.0.1", "state_dir": str(work_dir / "state"),
                                "socket": str(work_dir / "none.sock"), "plugins": [str(path)]}))
        process = Process(path.stem, [bin_dir / "sma", "-c", config], work_dir)
        assert process.wait() == 1
        assert message in process.log()


def test_a_vm_uses_the_native_plugin(bin_dir, build_dir, module_work_dir, native_plugin):
    """Includes a restart of the agent, and of the target while the VM runs."""
    arguments = ["-S", str(module_work_dir)]
    with Target(bin_dir, module_work_dir, arguments) as target:
        volume = target.make_file_volume(size_mib=16, block_size=512)
        with start_sma(bin_dir, module_work_dir, socket=str(target.socket), plugins=[str(native_plugin)],
                       devices=[{"name": "vhost_socket", "params": {"prefix": "disk-"}}]) as agent:
            request = wire.sma.CreateDeviceRequest()
            request.virtio_blk.physical_id = 3
            request.volume.volume_id = volume.bytes
            handle = agent.client.stub.CreateDevice(request).handle
            assert handle == "vhost-socket:3"
            machine_arguments = [
                "-object", f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on",
                "-machine", "pc,memory-backend=memory",
                "-chardev", f"socket,id=disk,path={module_work_dir}/disk-3,reconnect=1",
                "-device", "vhost-user-blk-pci,chardev=disk"]
            with VirtualMachine(module_work_dir, build_dir.parent / "vm", memory_mib=MEMORY_MIB,
                                extra_arguments=machine_arguments) as machine:
                machine.run("dd if=/dev/urandom of=/tmp/data bs=1M count=4 && "
                            "dd if=/tmp/data of=/dev/vda oflag=direct bs=1M")
                agent.kill()
                agent.start()
                assert agent.client.stub.CreateDevice(request).handle == handle
                target.kill()
                target.start()
                target.make_file_volume(size_mib=16, block_size=512, volume=volume)
                machine.run("dd if=/dev/vda of=/tmp/back iflag=direct bs=1M count=4 && cmp /tmp/data /tmp/back")
            agent.client.delete_device(handle)
            assert not (module_work_dir / "disk-3").exists()
