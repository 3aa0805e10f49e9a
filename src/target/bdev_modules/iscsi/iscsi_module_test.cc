#include "target/bdev_modules/iscsi/iscsi_module.h"

#include <gtest/gtest.h>

#include <optional>

#include "target/bdev/test_bdev.h"
#include "target/bdev_modules/iscsi/fake_portal.h"

namespace sma::target::bdev_iscsi {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using namespace std::chrono_literals;

class IscsiModuleTest : public testing::Test {
 protected:
  void TearDown() override {
    if (registry_.Find("is0") != nullptr) Delete("is0");
  }
  base::ErrnoOr<std::string> Create(const std::string& name, const FakePortal& portal) {
    std::optional<base::ErrnoOr<std::string>> result;
    module_.Create({.name = name, .url = portal.url(), .initiator_iqn = "iqn.2016-06.io.spdk:h"},
                   [&](auto made) { result = std::move(made); });
    RunUntil([&] { return result.has_value(); });
    return *result;
  }
  void Open() {
    auto made = Create("is0", portal_);
    ASSERT_TRUE(made.ok()) << made.error();
    events_.on_remove = [this] { Close(); };
    auto opened = registry_.Open("is0", bdev::Registry::Access::kWrite, &events_);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    channel_ = descriptor_->OpenChannel(*reactor_);
  }
  void Close() {
    channel_.reset();
    descriptor_.reset();
  }
  void Delete(const std::string& name) {
    bool deleted = false;
    ASSERT_EQ(module_.Delete(name, [&] { deleted = true; }), 0);
    RunUntil([&] { return deleted; });
  }
  void RunUntil(const std::function<bool()>& condition) {
    ASSERT_TRUE(reactor_->RunUntil(condition, 20s));
  }
  void RunFor(std::chrono::milliseconds time) {
    reactor_->RunUntil([] { return false; }, time);
  }

  std::unique_ptr<Reactor> reactor_ =
      Reactor::ForThisThread({.poll = std::chrono::microseconds(0)});
  bdev::Registry registry_{*reactor_};
  FakePortal portal_{*reactor_};
  IscsiModule module_{registry_};
  bdev::TestEvents events_;
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::unique_ptr<bdev::Channel> channel_;
};

TEST_F(IscsiModuleTest, AReadWithoutAllItsDataFails) {
  Open();
  portal_.content.assign(portal_.content.size(), 'x');
  TestIo whole(IoType::kRead, 0, 16, 512);
  EXPECT_EQ(RunIo(*channel_, whole), IoStatus::kOk);
  EXPECT_EQ(whole.data.back(), std::byte{'x'});
  for (size_t bytes : {size_t{0}, size_t{512}, size_t{4096}, size_t{7680}}) {
    portal_.read_bytes = bytes;
    TestIo read(IoType::kRead, 0, 16, 512);
    EXPECT_EQ(RunIo(*channel_, read), IoStatus::kFailed) << bytes;
  }
  portal_.read_bytes.reset();
  TestIo again(IoType::kRead, 0, 16, 512);
  EXPECT_EQ(RunIo(*channel_, again), IoStatus::kOk);
}

TEST_F(IscsiModuleTest, ALogicalUnitHasOneBdev) {
  Open();
  EXPECT_EQ(Create("is1", portal_).error(), EBUSY);
  EXPECT_EQ(registry_.Find("is1"), nullptr);
  // The same unit at another portal.
  FakePortal other(*reactor_);
  EXPECT_EQ(Create("is1", other).error(), EBUSY);
  Delete("is0");
  EXPECT_TRUE(Create("is0", other).ok());
  Delete("is0");
}

TEST_F(IscsiModuleTest, AWriteProtectedUnitIsReadOnly) {
  portal_.write_protected = true;
  ASSERT_TRUE(Create("is0", portal_).ok());
  EXPECT_TRUE(registry_.Find("is0")->info().read_only);
  Delete("is0");
  portal_.write_protected = false;
  ASSERT_TRUE(Create("is0", portal_).ok());
  EXPECT_FALSE(registry_.Find("is0")->info().read_only);
}

TEST_F(IscsiModuleTest, AWriteThatWaitsForAConnectionIsTakenBack) {
  Open();
  portal_.hold = true;
  TestIo first(IoType::kWrite, 0, 1, 512, std::byte{1});
  channel_->Submit(first);
  RunUntil([&] { return portal_.io_count == 1; });
  portal_.DropConnections();
  TestIo second(IoType::kWrite, 1, 1, 512, std::byte{2});
  // Until the loss has been seen the first counts as sent.
  RunUntil([&] { return first.result || channel_->Abort(first); });
  EXPECT_EQ(first.result, IoStatus::kAborted);
  channel_->Submit(second);
  EXPECT_TRUE(channel_->Abort(second));
  EXPECT_EQ(second.result, IoStatus::kAborted);
  portal_.hold = false;
  TestIo read(IoType::kRead, 0, 2, 512);
  EXPECT_EQ(RunIo(*channel_, read), IoStatus::kOk);
  EXPECT_EQ(portal_.content, std::string(portal_.content.size(), '\0'));
}

TEST_F(IscsiModuleTest, ACommandAtTheTargetIsAbortedThere) {
  Open();
  portal_.hold = true;
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  channel_->Submit(write);
  RunUntil([&] { return portal_.io_count == 1; });
  EXPECT_FALSE(channel_->Abort(write));
  EXPECT_FALSE(channel_->Abort(write));
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  EXPECT_EQ(portal_.abort_count, 1);
  EXPECT_EQ(portal_.Release(), 0);
  portal_.hold = false;
  TestIo read(IoType::kRead, 0, 1, 512);
  EXPECT_EQ(RunIo(*channel_, read), IoStatus::kOk);
  EXPECT_EQ(read.data[0], std::byte{0});
}

TEST_F(IscsiModuleTest, AnAbortedCommandIsNotSentAgainAfterALoss) {
  Open();
  portal_.hold = true;
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  channel_->Submit(write);
  RunUntil([&] { return portal_.io_count == 1; });
  EXPECT_FALSE(channel_->Abort(write));
  portal_.DropConnections();
  portal_.hold = false;
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  TestIo read(IoType::kRead, 0, 1, 512);
  EXPECT_EQ(RunIo(*channel_, read), IoStatus::kOk);
  EXPECT_EQ(read.data[0], std::byte{0});
  EXPECT_EQ(portal_.io_count, 2);
}

}  // namespace
}  // namespace sma::target::bdev_iscsi
