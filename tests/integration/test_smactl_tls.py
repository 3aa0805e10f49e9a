# SPDX-License-Identifier: Apache-2.0
"""smactl says in the system's words why TLS fails."""

import subprocess

import pytest

from harness.agent import start_sma


def openssl(work_dir, *arguments):
    subprocess.run(["openssl", *arguments], cwd=work_dir, check=True, capture_output=True)


CA_CONFIG = """[ca]
default_ca=own
[own]
database=index.txt
serial=serial
new_certs_dir=.
default_md=sha256
policy=any
copy_extensions=copy
[any]
commonName=supplied
"""


def make_certificate(work_dir, name, address="127.0.0.1", expired=False):
    """Creates the self-signed certificate NAME.pem and its key NAME.key."""
    openssl(work_dir, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=IP:{address}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (work_dir / "ca.cnf").write_text(CA_CONFIG)
    (work_dir / "index.txt").write_text("")
    end = "20200102000000Z" if expired else "20991231000000Z"
    openssl(work_dir, "ca", "-batch", "-config", "ca.cnf", "-selfsign", "-create_serial", "-rand_serial",
            "-keyfile", f"{name}.key", "-in", f"{name}.csr", "-startdate", "20200101000000Z", "-enddate", end,
            "-out", f"{name}.pem")


def message(bin_dir, agent, *arguments):
    """Returns what smactl prints on standard error."""
    run = subprocess.run([bin_dir / "smactl", "-a", agent.address, "--timeout", "5s", *arguments, "status"],
                         capture_output=True, text=True)
    assert run.returncode != 0
    return run.stderr


def serve(bin_dir, work_dir, target, **tls):
    files = {key: str(work_dir / path) for key, path in tls.items()}
    return start_sma(bin_dir, work_dir, socket=str(target.socket), tls=files)


@pytest.fixture
def tls_agent(bin_dir, work_dir, target, monkeypatch):
    monkeypatch.setattr("grpc.channel_ready_future", lambda channel: _Ready())  # the client of the harness has no TLS

    def start(name, address="127.0.0.1", expired=False, **more):
        make_certificate(work_dir, name, address, expired)
        started.append(serve(bin_dir, work_dir, target, cert=f"{name}.pem", key=f"{name}.key", **more))
        return started[-1]

    started = []
    yield start
    for agent in started:
        agent.stop()


class _Ready:
    def result(self, timeout):
        pass


def test_the_reason_is_told(bin_dir, work_dir, tls_agent):
    agent = tls_agent("good")
    make_certificate(work_dir, "other")
    assert "self-signed certificate" in message(bin_dir, agent, "--ca", work_dir / "other.pem")
    assert "the agent uses TLS" in message(bin_dir, agent)


def test_an_expired_certificate(bin_dir, work_dir, tls_agent):
    agent = tls_agent("old", expired=True)
    assert "certificate has expired" in message(bin_dir, agent, "--ca", work_dir / "old.pem")


def test_a_certificate_of_another_address(bin_dir, work_dir, tls_agent):
    agent = tls_agent("far", address="192.0.2.1")
    assert "IP address mismatch" in message(bin_dir, agent, "--ca", work_dir / "far.pem")


def test_a_client_without_a_certificate(bin_dir, work_dir, tls_agent):
    make_certificate(work_dir, "clients")
    agent = tls_agent("good", client_ca="clients.pem")
    assert "the agent rejects this client" in message(bin_dir, agent, "--ca", work_dir / "good.pem")


def test_an_agent_without_tls(bin_dir, work_dir, target):
    make_certificate(work_dir, "any")
    with start_sma(bin_dir, work_dir, socket=str(target.socket)) as agent:
        assert "the agent does not use TLS" in message(bin_dir, agent, "--ca", work_dir / "any.pem")
