#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "target/bdev/registry.h"
#include "target/bdev_modules/malloc/malloc_bdev.h"
#include "target/nvmf/target.h"
#include "target/nvmf/tcp/tcp_transport.h"
#include "target/nvmf/tcp/test_host.h"

namespace sma::target::nvmf::tcp {

/// A target on a port of its own with a subsystem that has one memory disk. Its control reactor has
/// a thread of its own, so that tests may block.
class TestTarget {
 public:
  static constexpr char kNqn[] = "nqn.2016-06.io.spdk:test";
  static constexpr uint32_t kBlockSize = 4096;
  static constexpr uint64_t kBlockCount = 4096;

  explicit TestTarget(Options options = {}, int reactor_count = 1) {
    control_ =
        Reactor::Start({.index = -1, .poll = std::chrono::microseconds(0), .name = "control"});
    std::vector<Reactor*> io;
    for (int i = 0; i < reactor_count; ++i) {
      io_.push_back(Reactor::Start({.index = i, .poll = std::chrono::microseconds(0)}));
      io.push_back(io_.back().get());
    }
    control_->Invoke([&] {
      registry_ = std::make_unique<bdev::Registry>(*control_);
      target_ = std::make_unique<Target>(*control_, io, *registry_);
      EXPECT_EQ(target_->AddTransport(std::make_unique<TcpTransport>(*target_, options)), 0);
      AddDisk("disk");
      SubsystemOptions subsystem;
      subsystem.nqn = kNqn;
      subsystem.allow_any_host = true;
      subsystem_ = *target_->CreateSubsystem(subsystem);
      Listen();
      subsystem_->namespaces().Add({.bdev_name = "disk"}, [](auto nsid) { EXPECT_EQ(*nsid, 1u); });
    });
  }

  ~TestTarget() {
    Wait([&](auto done) { target_->Shutdown(done); });
    control_->Invoke([&] { target_.reset(); });
    for (bdev::Bdev* bdev : List()) {
      Wait([&](auto done) { registry_->Unregister(*bdev, done); });
    }
    control_->Invoke([&] { registry_.reset(); });
    for (auto& reactor : io_) reactor->Stop();
    control_->Stop();
  }

  /// Runs `act(done)` in the control reactor and waits until it has called `done`.
  template <typename F>
  void Wait(F act) {
    std::promise<void> promise;
    control_->Post([&] { act([&promise] { promise.set_value(); }); });
    ASSERT_EQ(promise.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  }
  template <typename F>
  void InControl(F act) {
    control_->Invoke(act);
  }

  void AddDisk(const std::string& name) {
    bdev::Bdev::Info info;
    info.name = name;
    info.block_size = kBlockSize;
    info.block_count = kBlockCount;
    EXPECT_EQ(registry_->Register(*bdev_modules::MakeMallocBdev(info)), 0);
  }

  /// A new TCP connection.
  TestHost Dial() {
    base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return TestHost(std::move(fd));
  }
  /// The same after ICReq and, for the admin queue, Connect and enabling.
  TestHost DialAdmin(uint8_t digests = 0) {
    TestHost host = Dial();
    host.Initialize(digests);
    nvme::Completion completion = host.Connect(TestHost::ConnectDataFor(kNqn));
    EXPECT_EQ(nvme::StatusOf(completion.status), nvme::Status::kSuccess);
    cntlid_ = nvme::ConnectControllerId(completion.dw0);
    EXPECT_EQ(nvme::StatusOf(host.Enable().status), nvme::Status::kSuccess);
    return host;
  }
  /// An I/O queue of the controller that DialAdmin made last.
  TestHost DialIo(uint8_t digests = 0, uint16_t queue_id = 1, uint16_t sq_size = 127,
                  uint8_t hpda = 0) {
    TestHost host = Dial();
    host.Initialize(digests, hpda);
    nvme::Completion completion =
        host.Connect(TestHost::ConnectDataFor(kNqn, cntlid_), queue_id, sq_size);
    EXPECT_EQ(nvme::StatusOf(completion.status), nvme::Status::kSuccess);
    host.agreement.max_in_capsule = 4096;
    return host;
  }

  Reactor& reactor(int index) { return *io_[static_cast<size_t>(index)]; }
  Target& target() { return *target_; }
  Subsystem& subsystem() { return *subsystem_; }
  bdev::Registry& registry() { return *registry_; }
  const TransportAddress& address() const { return address_; }
  uint16_t cntlid() const { return cntlid_; }

 private:
  std::vector<bdev::Bdev*> List() {
    std::vector<bdev::Bdev*> list;
    control_->Invoke([&] { list = registry_->List(); });
    return list;
  }

  // A port that is free now may be taken a moment later, so several are tried.
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

  std::unique_ptr<Reactor> control_;
  std::vector<std::unique_ptr<Reactor>> io_;
  std::unique_ptr<bdev::Registry> registry_;
  std::unique_ptr<Target> target_;
  Subsystem* subsystem_ = nullptr;
  TransportAddress address_;
  uint16_t port_ = 0;
  uint16_t cntlid_ = 0;
};

}  // namespace sma::target::nvmf::tcp
