// SPDX-License-Identifier: Apache-2.0

#include "agent/service/admin_service.h"

#include <atomic>
#include <latch>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "agent/service/testing/server_fixture.h"

namespace sma::service {
namespace {

using admin::v1::WatchRequest;
using admin::v1::WatchResponse;
using testing::Return;

class AdminServiceTest : public ServerFixture {
 protected:
  void StartServer() {
    ServerFixture::StartServer();
    admin_stub_ = admin::v1::Admin::NewStub(channel_);
  }

  static std::shared_ptr<const WatchResponse> Removed(const std::string& handle) {
    auto change = std::make_shared<WatchResponse>();
    change->set_device_removed(handle);
    return change;
  }

  std::unique_ptr<admin::v1::Admin::Stub> admin_stub_;
};

/// Replaces the agent behind Watch: calls each sink until its subscription ends.
class Hub {
 public:
  std::unique_ptr<api::Subscription> Add(api::WatchSink sink) {
    std::lock_guard lock(mutex_);
    sinks_[next_] = std::move(sink);
    return std::make_unique<Entry>(*this, next_++);
  }

  void Send(const std::shared_ptr<const WatchResponse>& change) {
    std::lock_guard lock(mutex_);
    for (auto& [id, sink] : sinks_) sink(change);
  }

  /// Sends each watcher a separate change.
  void SendEach(const std::function<std::shared_ptr<const WatchResponse>()>& make) {
    std::lock_guard lock(mutex_);
    for (auto& [id, sink] : sinks_) sink(make());
  }

  size_t count() {
    std::lock_guard lock(mutex_);
    return sinks_.size();
  }

  void WaitForCount(size_t count_wanted) {
    while (count() != count_wanted) std::this_thread::yield();
  }

 private:
  class Entry : public api::Subscription {
   public:
    Entry(Hub& hub, int id) : hub_(hub), id_(id) {}
    ~Entry() override {
      std::lock_guard lock(hub_.mutex_);
      hub_.sinks_.erase(id_);
    }

   private:
    Hub& hub_;
    const int id_;
  };

  std::mutex mutex_;
  std::map<int, api::WatchSink> sinks_;
  int next_ = 0;
};

TEST_F(AdminServiceTest, EachMethodReachesTheAdmin) {
  StartServer();
  admin::v1::Device device;
  device.set_handle("h");
  admin::v1::Volume volume;
  volume.set_bdev("b");
  admin::v1::Status status;
  status.set_version("v");
  admin::v1::ListDevicesResponse devices;
  *devices.add_devices() = device;
  admin::v1::ListVolumesResponse volumes;
  *volumes.add_volumes() = volume;
  EXPECT_CALL(admin_, ListDevices).WillOnce(Return(devices));
  EXPECT_CALL(admin_, GetDevice).WillOnce(Return(absl::NotFoundError("no device 'h'")));
  EXPECT_CALL(admin_, ListVolumes).WillOnce(Return(volumes));
  EXPECT_CALL(admin_, GetVolume).WillOnce(Return(volume));
  EXPECT_CALL(admin_, GetStatus).WillOnce(Return(status));
  EXPECT_CALL(admin_, ListPlugins).WillOnce(Return(admin::v1::ListPluginsResponse()));
  EXPECT_CALL(admin_, ListAdoptionCandidates)
      .WillOnce(Return(admin::v1::ListAdoptionCandidatesResponse()));
  EXPECT_CALL(admin_, AdoptDevice).WillOnce(Return(device));

  grpc::ClientContext c1, c2, c3, c4, c5, c6, c7, c8;
  EXPECT_TRUE(admin_stub_->ListDevices(&c1, {}, &devices).ok());
  EXPECT_EQ(devices.devices(0).handle(), "h");
  EXPECT_EQ(admin_stub_->GetDevice(&c2, {}, &device).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(admin_stub_->ListVolumes(&c3, {}, &volumes).ok());
  EXPECT_TRUE(admin_stub_->GetVolume(&c4, {}, &volume).ok());
  EXPECT_TRUE(admin_stub_->GetStatus(&c5, {}, &status).ok());
  EXPECT_EQ(status.version(), "v");
  admin::v1::ListPluginsResponse plugins;
  EXPECT_TRUE(admin_stub_->ListPlugins(&c6, {}, &plugins).ok());
  admin::v1::ListAdoptionCandidatesResponse candidates;
  EXPECT_TRUE(admin_stub_->ListAdoptionCandidates(&c7, {}, &candidates).ok());
  EXPECT_TRUE(admin_stub_->AdoptDevice(&c8, {}, &device).ok());
}

TEST_F(AdminServiceTest, AnswersWhileAllOtherWorkersAreBusy) {
  GrpcServerOptions options;
  options.max_calls = 1;
  ServerFixture::StartServer(options);
  admin_stub_ = admin::v1::Admin::NewStub(channel_);
  std::latch began(1), go(1);
  EXPECT_CALL(agent_, DeleteDevice).WillOnce([&](auto&, auto&) {
    began.count_down();
    go.wait();
    return DeleteDeviceResponse();
  });
  EXPECT_CALL(admin_, GetStatus).WillOnce(Return(admin::v1::Status()));
  std::thread caller([&] { EXPECT_TRUE(Delete("x").ok()); });
  began.wait();
  grpc::ClientContext context;
  admin::v1::Status status;
  EXPECT_TRUE(admin_stub_->GetStatus(&context, {}, &status).ok());
  go.count_down();
  caller.join();
}

TEST_F(AdminServiceTest, WatchStreamsTheChangesOfTheSink) {
  StartServer();
  Hub hub;
  EXPECT_CALL(admin_, Watch).WillOnce([&](const WatchRequest& request, api::WatchSink sink) {
    EXPECT_TRUE(request.initial_state());
    sink(Removed("first"));
    return hub.Add(std::move(sink));
  });
  grpc::ClientContext context;
  WatchRequest request;
  request.set_initial_state(true);
  auto stream = admin_stub_->Watch(&context, request);
  WatchResponse change;
  ASSERT_TRUE(stream->Read(&change));
  EXPECT_EQ(change.device_removed(), "first");
  hub.WaitForCount(1);
  for (int i = 0; i < 100; ++i) hub.Send(Removed(std::to_string(i)));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(stream->Read(&change));
    EXPECT_EQ(change.device_removed(), std::to_string(i));
  }
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  hub.WaitForCount(0);
}

TEST_F(AdminServiceTest, ARefusedWatchEndsWithTheReason) {
  StartServer();
  EXPECT_CALL(admin_, Watch).WillOnce(Return(absl::NotFoundError("no device 'h'")));
  grpc::ClientContext context;
  auto stream = admin_stub_->Watch(&context, {});
  WatchResponse change;
  EXPECT_FALSE(stream->Read(&change));
  grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no device 'h'");
}

TEST_F(AdminServiceTest, AWatcherThatDoesNotReadIsEnded) {
  StartServer();
  Hub hub;
  constexpr int kInitial = 10'000;
  EXPECT_CALL(admin_, Watch).WillOnce([&](auto&, api::WatchSink sink) {
    // The initial state may exceed the limit on changes queued later.
    for (int i = 0; i < kInitial; ++i) sink(Removed("x"));
    return hub.Add(std::move(sink));
  });
  grpc::ClientContext context;
  auto stream = admin_stub_->Watch(&context, {});
  WatchResponse change;
  for (int i = 0; i < kInitial; ++i) ASSERT_TRUE(stream->Read(&change));
  hub.WaitForCount(1);
  auto large = Removed(std::string(10'000, 'x'));
  for (int i = 0; i < 20'000; ++i) hub.Send(large);
  while (stream->Read(&change)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  hub.WaitForCount(0);
}

// Each watcher watches a different device, so that no two of them share a change.
TEST_F(AdminServiceTest, Defect57_WatchersThatNeverReadKeepALimitedNumberOfChanges) {
  StartServer();
  Hub hub;
  constexpr int kWatchers = 50;
  constexpr int kChanges = 4000;
  constexpr int kBudget = 65'536;
  EXPECT_CALL(admin_, Watch).WillRepeatedly([&](auto&, api::WatchSink sink) {
    return hub.Add(std::move(sink));
  });
  std::atomic<int> kept{0};
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<WatchResponse>>> streams;
  for (int i = 0; i < kWatchers; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(admin_stub_->Watch(contexts.back().get(), {}));
  }
  hub.WaitForCount(kWatchers);
  int most = 0;
  const std::string text(100, 'x');
  for (int i = 0; i < kChanges; ++i) {
    hub.SendEach([&] {
      auto* change = new WatchResponse;
      change->set_device_removed(text);
      ++kept;
      return std::shared_ptr<const WatchResponse>(change, [&kept](const WatchResponse* gone) {
        delete gone;
        --kept;
      });
    });
    most = std::max(most, kept.load());
  }
  // Messages that are being written are not counted in the queues.
  EXPECT_LE(most, kBudget + 2 * kWatchers);
  EXPECT_GT(most, kBudget / 2) << "this test does not fill the queues";
  for (auto& context : contexts) context->TryCancel();
  for (auto& stream : streams) {
    WatchResponse change;
    while (stream->Read(&change)) {
    }
    stream->Finish();
  }
  hub.WaitForCount(0);
  server_->Stop(kPatience);
  EXPECT_EQ(kept, 0);
}

TEST_F(AdminServiceTest, ManyWatchersStartAndEndWhileChangesAreSent) {
  StartServer();
  Hub hub;
  EXPECT_CALL(admin_, Watch).WillRepeatedly([&](auto&, api::WatchSink sink) {
    return hub.Add(std::move(sink));
  });
  std::atomic<bool> stop{false};
  std::thread sender([&] {
    while (!stop) {
      hub.Send(Removed("x"));
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> watchers;
  for (int i = 0; i < 8; ++i) {
    watchers.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        grpc::ClientContext context;
        auto stream = admin_stub_->Watch(&context, {});
        WatchResponse change;
        EXPECT_TRUE(stream->Read(&change));
        context.TryCancel();
        while (stream->Read(&change)) {
        }
      }
    });
  }
  for (std::thread& watcher : watchers) watcher.join();
  stop = true;
  sender.join();
  server_->Stop(kPatience);
  EXPECT_EQ(hub.count(), 0u);
}

}  // namespace
}  // namespace sma::service
