#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "target/bdev/registry.h"
#include "target/bdev_modules/malloc/malloc_bdev.h"
#include "target/nvmf/target.h"
#include "target/nvmf/vfio_user/vfio_user_transport.h"
#include "target/reactor/reactor.h"

// For tests only.

namespace sma::target::nvmf::vfio_user {

/// A target with a subsystem that has one memory disk and a VFIOUSER listener in a folder of its
/// own.
class TestTarget {
 public:
  static constexpr char kNqn[] = "nqn.2016-06.io.spdk:vfiouser-test";
  static constexpr uint32_t kBlockSize = 4096;
  static constexpr uint64_t kBlockCount = 4096;

  explicit TestTarget(Options options = {}) {
    std::string folder = std::filesystem::temp_directory_path() / "vfiouser_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    address_ = {"VFIOUSER", nvme::AddressFamily::kNone, folder_, ""};
    control_ =
        Reactor::Start({.index = -1, .poll = std::chrono::microseconds(0), .name = "control"});
    // Long enough that tests find it awake also on a busy machine.
    io_ = Reactor::Start({.index = 0, .poll = std::chrono::milliseconds(2), .name = "io"});
    control_->Invoke([&] {
      registry_ = std::make_unique<bdev::Registry>(*control_);
      target_ = std::make_unique<Target>(*control_, std::vector<Reactor*>{io_.get()}, *registry_);
      EXPECT_EQ(target_->AddTransport(std::make_unique<VfioUserTransport>(*target_, options)), 0);
      AddDisk("disk");
      SubsystemOptions subsystem;
      subsystem.nqn = kNqn;
      subsystem.allow_any_host = true;
      subsystem_ = *target_->CreateSubsystem(subsystem);
      EXPECT_EQ(Listen(), 0);
    });
    Wait([&](auto done) {
      subsystem_->namespaces().Add({.bdev_name = "disk"}, [done](auto nsid) {
        EXPECT_EQ(*nsid, 1u);
        done();
      });
    });
  }

  ~TestTarget() {
    Wait([&](auto done) { target_->Shutdown(done); });
    control_->Invoke([&] { target_.reset(); });
    std::vector<bdev::Bdev*> list;
    control_->Invoke([&] { list = registry_->List(); });
    for (bdev::Bdev* bdev : list) Wait([&](auto done) { registry_->Unregister(*bdev, done); });
    control_->Invoke([&] { registry_.reset(); });
    io_->Stop();
    control_->Stop();
    std::filesystem::remove_all(folder_);
  }

  /// Runs `act(done)` in the control reactor and waits until it has called `done`.
  template <typename F>
  void Wait(F act) {
    auto promise = std::make_shared<std::promise<void>>();
    auto future = promise->get_future();
    control_->Post([&act, promise] { act([promise] { promise->set_value(); }); });
    ASSERT_EQ(future.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  }
  template <typename F>
  void InControl(F act) {
    control_->Invoke(act);
  }

  int Listen() { return subsystem_->AddListener(*target_->FindTransport("vfiouser"), address_); }

  void AddDisk(const std::string& name) {
    bdev::Bdev::Info info;
    info.name = name;
    info.block_size = kBlockSize;
    info.block_count = kBlockCount;
    EXPECT_EQ(registry_->Register(*bdev_modules::MakeMallocBdev(info)), 0);
  }

  Reactor& io() { return *io_; }
  Target& target() { return *target_; }
  Subsystem& subsystem() { return *subsystem_; }
  bdev::Registry& registry() { return *registry_; }
  const TransportAddress& address() const { return address_; }
  std::string socket_path() const { return folder_ + "/cntrl"; }

 private:
  std::string folder_;
  TransportAddress address_;
  std::unique_ptr<Reactor> control_;
  std::unique_ptr<Reactor> io_;
  std::unique_ptr<bdev::Registry> registry_;
  std::unique_ptr<Target> target_;
  Subsystem* subsystem_ = nullptr;
};

}  // namespace sma::target::nvmf::vfio_user
