// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <string>

#include "storage_target/nvmf/tcp/tcp_transport.h"
#include "storage_target/nvmf/tcp/testing/test_host.h"
#include "storage_target/nvmf/testing/target_thread.h"

namespace sma::storage_target::nvmf::tcp {

/// A target on its own port with a subsystem that has one malloc bdev. Its control reactor runs in
/// a separate thread, so that tests may block.
class TestTarget : public TargetThread {
 public:
  static constexpr char kNqn[] = "nqn.2016-06.io.spdk:test";

  explicit TestTarget(Options options = {}, int reactor_count = 1)
      : TargetThread(reactor_count, std::chrono::microseconds(0)) {
    Begin(
        kNqn, [&](Target& target) { return std::make_unique<TcpTransport>(target, options); },
        [&] { Listen(); });
  }
  ~TestTarget() { End(); }

  /// Opens a new TCP connection.
  TestHost Dial() {
    base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return TestHost(std::move(fd));
  }
  /// Like Dial, then sends ICReq and Connect and enables the controller.
  TestHost DialAdmin(uint8_t digests = 0) {
    TestHost host = Dial();
    host.Initialize(digests);
    nvme::Completion completion = host.Connect(TestHost::ConnectDataFor(kNqn));
    EXPECT_EQ(nvme::StatusOf(completion.status), nvme::Status::kSuccess);
    cntlid_ = nvme::ConnectControllerId(completion.dw0);
    EXPECT_EQ(nvme::StatusOf(host.Enable().status), nvme::Status::kSuccess);
    return host;
  }
  /// Connects an I/O queue of the controller that DialAdmin created last.
  TestHost DialIo(uint8_t digests = 0, uint16_t queue_id = 1, uint16_t sq_size = 127,
                  uint8_t hpda = 0) {
    TestHost host = Dial();
    host.Initialize(digests, hpda);
    nvme::Completion completion =
        host.Connect(TestHost::ConnectDataFor(kNqn, cntlid_), queue_id, sq_size);
    EXPECT_EQ(nvme::StatusOf(completion.status), nvme::Status::kSuccess);
    host.negotiated.max_in_capsule = 4096;
    return host;
  }

  Reactor& reactor(int index) { return *io_[static_cast<size_t>(index)]; }
  Target& target() { return *target_; }
  Subsystem& subsystem() { return *subsystem_; }
  bdev::Registry& registry() { return *registry_; }
  const TransportAddress& address() const { return address_; }
  uint16_t cntlid() const { return cntlid_; }

 private:
  // Tries several ports, because a free port may be taken a moment later.
  void Listen() {
    for (int attempt = 0; attempt < 20 && port_ == 0; ++attempt) {
      base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in bound{};
      bound.sin_family = AF_INET;
      bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t size = sizeof bound;
      if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&bound), size) != 0) continue;
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size);
      fd.Reset();
      uint16_t port = ntohs(bound.sin_port);
      address_ = {"TCP", nvme::AddressFamily::kIpv4, "127.0.0.1", std::to_string(port)};
      if (subsystem_->AddListener(*target_->FindTransport("tcp"), address_) == 0) port_ = port;
    }
    EXPECT_NE(port_, 0);
  }

  TransportAddress address_;
  uint16_t port_ = 0;
  uint16_t cntlid_ = 0;
};

}  // namespace sma::storage_target::nvmf::tcp
