// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "storage_target/bdev/testing/test_bdev.h"

namespace sma::storage_target::bdev {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;

struct Recorder : RegistryObserver {
  void OnBdevRegistered(Bdev& bdev) override { events.push_back("+" + bdev.name()); }
  void OnBdevUnregistered(Bdev& bdev) override { events.push_back("-" + bdev.name()); }
  void OnBdevResized(Bdev& bdev) override { events.push_back("~" + bdev.name()); }
  std::vector<std::string> events;
};

class RegistryTest : public testing::Test {
 protected:
  int Register(const std::string& name, const base::Uuid& uuid = {}) {
    return registry_.Register(std::make_unique<TestBdev>(
        Bdev::Info{.name = name, .uuid = uuid, .block_count = 100}, module_));
  }
  std::unique_ptr<Descriptor> Open(const std::string& name, Registry::Access access) {
    auto opened = registry_.Open(name, access, &events_);
    return opened.ok() ? std::move(*opened) : nullptr;
  }
  bool RunUntil(const std::function<bool()>& done) { return reactor_->RunUntil(done, seconds(10)); }

  TestModule module_;
  TestEvents events_;
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({});
  Registry registry_{*reactor_};
};

TEST_F(RegistryTest, NamesAndUuidsAreUnique) {
  base::Uuid uuid = base::Uuid::Random();
  EXPECT_EQ(Register("A", uuid), 0);
  EXPECT_EQ(Register("A"), EEXIST);
  EXPECT_EQ(Register("B", uuid), EEXIST);
  EXPECT_EQ(Register(uuid.ToString()), EEXIST);
  EXPECT_EQ(Register(""), EINVAL);
  EXPECT_EQ(Register("B"), 0);
  EXPECT_FALSE(registry_.Find("B")->info().uuid.is_nil());
  EXPECT_EQ(registry_.Find(uuid.ToString()), registry_.Find("A"));
  EXPECT_EQ(registry_.Find("C"), nullptr);
  EXPECT_THAT(registry_.List(), ElementsAre(registry_.Find("A"), registry_.Find("B")));
}

TEST_F(RegistryTest, AnAliasMayBeInUpperCase) {
  auto uuid = base::Uuid::Parse("0000000a-1111-4222-8333-44444444444b");
  EXPECT_EQ(Register("A", *uuid), 0);
  EXPECT_NE(registry_.Find("0000000A-1111-4222-8333-44444444444B"), nullptr);
}

TEST_F(RegistryTest, AMediumHasOneBdevUnlessAllAreReadOnly) {
  auto make = [&](const char* name, const char* medium, bool read_only) {
    return registry_.Register(std::make_unique<TestBdev>(
        Bdev::Info{.name = name, .block_count = 100, .read_only = read_only, .medium = medium},
        module_));
  };
  EXPECT_EQ(make("A", "file:1:2", false), 0);
  EXPECT_EQ(make("B", "file:1:2", false), EBUSY);
  EXPECT_EQ(make("B", "file:1:2", true), EBUSY);
  EXPECT_EQ(make("B", "file:1:3", true), 0);
  EXPECT_EQ(make("C", "file:1:3", true), 0);
  EXPECT_EQ(make("D", "file:1:3", false), EBUSY);
  EXPECT_EQ(make("D", "", false), 0);
  EXPECT_EQ(make("E", "", false), 0);
  // The bdev exists until it is no longer in use.
  auto descriptor = Open("A", Registry::Access::kRead);
  bool removed = false;
  registry_.Unregister(*registry_.Find("A"), [&] { removed = true; });
  EXPECT_EQ(make("F", "file:1:2", false), EBUSY);
  descriptor.reset();
  EXPECT_TRUE(RunUntil([&] { return removed; }));
  EXPECT_EQ(make("F", "file:1:2", false), 0);
}

TEST_F(RegistryTest, SizesAreChecked) {
  auto make = [&](uint32_t block_size, uint64_t block_count) {
    return registry_.Register(std::make_unique<TestBdev>(
        Bdev::Info{.name = "A", .block_size = block_size, .block_count = block_count}, module_));
  };
  EXPECT_EQ(make(256, 1), EINVAL);
  EXPECT_EQ(make(513, 1), EINVAL);
  EXPECT_EQ(make(1 << 21, 1), EINVAL);
  EXPECT_EQ(make(512, 0), EINVAL);
  EXPECT_EQ(make(512, UINT64_MAX / 256), EINVAL);
  EXPECT_EQ(make(4096, 1), 0);
}

TEST_F(RegistryTest, AClaimExcludesOtherWriters) {
  Register("A");
  EXPECT_EQ(registry_.Open("none", Registry::Access::kRead, &events_).error(), ENODEV);
  auto reader = Open("A", Registry::Access::kRead);
  EXPECT_EQ(reader->Claim("stacked"), 0);
  EXPECT_EQ(registry_.Find("A")->claimant(), "stacked");
  EXPECT_EQ(registry_.Open("A", Registry::Access::kWrite, &events_).error(), EPERM);
  auto other = Open("A", Registry::Access::kRead);
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(other->Claim("other"), EPERM);
  reader.reset();
  EXPECT_EQ(registry_.Find("A")->claimant(), std::nullopt);
  EXPECT_NE(Open("A", Registry::Access::kWrite), nullptr);
}

TEST_F(RegistryTest, AReadOnlyBdevIsOpenedForReadingOnly) {
  ASSERT_EQ(registry_.Register(std::make_unique<TestBdev>(
                Bdev::Info{.name = "A", .block_count = 100, .read_only = true}, module_)),
            0);
  EXPECT_EQ(registry_.Open("A", Registry::Access::kWrite, &events_).error(), EROFS);
  auto descriptor = Open("A", Registry::Access::kRead);
  ASSERT_NE(descriptor, nullptr);
  // Claims the bdev as a stacked bdev would that inherits read-only from its base.
  ASSERT_EQ(descriptor->Claim("stacked"), 0);
  auto channel = descriptor->OpenChannel(*reactor_);
  TestIo io(IoType::kWrite, 0, 1, 512);
  EXPECT_EQ(RunIo(*channel, io), IoStatus::kReadOnly);
}

TEST_F(RegistryTest, TheClaimantMayWrite) {
  Register("A");
  auto descriptor = Open("A", Registry::Access::kRead);
  ASSERT_EQ(descriptor->Claim("stacked"), 0);
  auto channel = descriptor->OpenChannel(*reactor_);
  TestIo io(IoType::kWrite, 0, 1, 512);
  EXPECT_EQ(RunIo(*channel, io), IoStatus::kOk);
}

TEST_F(RegistryTest, RemovalNotifiesOwnersAndObserversAndWaitsForThem) {
  Recorder recorder;
  registry_.AddObserver(&recorder);
  Register("A");
  auto descriptor = Open("A", Registry::Access::kWrite);
  bool first = false;
  bool second = false;
  EXPECT_EQ(registry_.Unregister("A", "other", [] {}), ENODEV);
  EXPECT_EQ(registry_.Unregister("A", "test", [&] { first = true; }), 0);
  EXPECT_EQ(events_.removals, 1);
  EXPECT_EQ(registry_.Find("A"), nullptr);
  EXPECT_EQ(registry_.Unregister("A", "test", [] {}), ENODEV);
  EXPECT_EQ(registry_.Open("A", Registry::Access::kRead, &events_).error(), ENODEV);
  registry_.Unregister(descriptor->bdev(), [&] { second = true; });
  // The name is free only after the bdev is destroyed.
  EXPECT_EQ(Register("A"), EEXIST);
  EXPECT_FALSE(first);
  descriptor.reset();
  EXPECT_TRUE(RunUntil([&] { return first && second; }));
  EXPECT_EQ(events_.removals, 1);
  EXPECT_EQ(Register("A"), 0);
  EXPECT_THAT(recorder.events, ElementsAre("+A", "-A", "+A"));
  registry_.RemoveObserver(&recorder);
}

TEST_F(RegistryTest, AnOwnerMayCloseEveryDescriptorWhenNotified) {
  Register("A");
  std::vector<std::unique_ptr<Descriptor>> descriptors;
  for (int i = 0; i < 3; ++i) descriptors.push_back(Open("A", Registry::Access::kWrite));
  events_.on_remove = [&] { descriptors.clear(); };
  bool removed = false;
  registry_.Unregister(*registry_.Find("A"), [&] { removed = true; });
  EXPECT_FALSE(removed);
  EXPECT_TRUE(RunUntil([&] { return removed; }));
  EXPECT_EQ(events_.removals, 1);
}

TEST_F(RegistryTest, ResizeNotifiesOwnersAndRefusesToShrinkOpenBdevs) {
  Recorder recorder;
  Register("A");
  registry_.AddObserver(&recorder);
  Bdev& bdev = *registry_.Find("A");
  EXPECT_EQ(registry_.Resize(bdev, 50), 0);
  auto descriptor = Open("A", Registry::Access::kWrite);
  EXPECT_EQ(registry_.Resize(bdev, 200), 0);
  EXPECT_EQ(registry_.Resize(bdev, 200), 0);
  EXPECT_EQ(registry_.Resize(bdev, 199), EBUSY);
  EXPECT_EQ(registry_.Resize(bdev, 0), EINVAL);
  EXPECT_EQ(bdev.block_count(), 200U);
  EXPECT_EQ(events_.resizes, 1);
  EXPECT_THAT(recorder.events, ElementsAre("~A", "~A"));
  registry_.RemoveObserver(&recorder);
}

// Two reactors keep I/O in flight while the bdev is reset and then removed.
class Hammer : public DescriptorEvents {
 public:
  Hammer(Registry& registry, std::vector<Reactor*> reactors)
      : registry_(registry), reactors_(std::move(reactors)) {}

  void Start() {
    auto opened = registry_.Open("A", Registry::Access::kWrite, this);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    running_ = static_cast<int>(reactors_.size());
    for (Reactor* reactor : reactors_) {
      auto worker = std::make_shared<Worker>(*this);
      reactor->Post([this, worker, reactor] {
        worker->channel = descriptor_->OpenChannel(*reactor);
        ++started_;
        worker->self = worker;
        worker->Again();
      });
    }
  }
  bool started() const { return started_ == static_cast<int>(reactors_.size()); }
  uint64_t ios() const { return ios_; }

  // The workers detect the removal by the status kGone.
  void OnBdevRemove() override {}
  void OnBdevResize() override {}

 private:
  struct Worker {
    explicit Worker(Hammer& h) : hammer(h), io(IoType::kRead, 0, 1, 512) {
      io.then = [this] {
        ++hammer.ios_;
        bool gone = io.result == IoStatus::kGone;
        channel->reactor().Post([this, gone] { gone ? End() : Again(); });
      };
    }
    void Again() { channel->Submit(io); }
    void End() {
      channel.reset();
      hammer.registry_.control().Post([h = &hammer] {
        if (--h->running_ == 0) h->descriptor_.reset();
      });
      self.reset();
    }
    Hammer& hammer;
    TestIo io;
    std::unique_ptr<Channel> channel;
    std::shared_ptr<Worker> self;
  };

  Registry& registry_;
  const std::vector<Reactor*> reactors_;
  std::unique_ptr<Descriptor> descriptor_;
  int running_ = 0;
  std::atomic<int> started_{0};
  std::atomic<uint64_t> ios_{0};
};

TEST_F(RegistryTest, ResetAndRemovalDuringIoFromTwoReactors) {
  auto a = Reactor::Start({.name = "a"});
  auto b = Reactor::Start({.name = "b"});
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(registry_.Register(
                  std::make_unique<InstantBdev>(Bdev::Info{.name = "A", .block_count = 100})),
              0);
    Hammer hammer(registry_, {a.get(), b.get()});
    hammer.Start();
    ASSERT_TRUE(RunUntil([&] { return hammer.started(); }));
    for (int i = 0; i < 5; ++i) {
      std::optional<int> reset;
      registry_.Reset(*registry_.Find("A"), [&](int error) { reset = error; });
      ASSERT_TRUE(RunUntil([&] { return reset.has_value(); }));
      EXPECT_EQ(reset, 0);
      uint64_t before = hammer.ios();
      EXPECT_TRUE(RunUntil([&] { return hammer.ios() > before + 10; }));
    }
    bool removed = false;
    registry_.Unregister(*registry_.Find("A"), [&] { removed = true; });
    ASSERT_TRUE(RunUntil([&] { return removed; }));
  }
  a->Stop();
  b->Stop();
}

}  // namespace
}  // namespace sma::storage_target::bdev
