#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "target/nvme/fabrics.h"
#include "target/nvme/nqn.h"
#include "target/nvme/property.h"
#include "target/nvmf/target.h"
#include "target/nvmf/transport_queue_pair.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf {

/// A transport without a network, for tests: commands and their data are handed over in memory. One
/// reactor, which is the test's thread, is control plane and I/O reactor at once.
class FakeQueuePair final : public TransportQueuePair {
 public:
  struct FakeRequest : Request {
    std::vector<std::byte> data;
    iovec data_iov{};
    bool answered = false;
    nvme::Status status() const { return nvme::StatusOf(completion.status); }
    template <typename T>
    T DataAs() const {
      T value;
      EXPECT_GE(data.size(), sizeof value);
      std::memcpy(&value, data.data(), sizeof value);
      return value;
    }
  };

  FakeQueuePair(Target& target, Reactor& reactor, const TransportLimits& limits = {})
      : TransportQueuePair(target, reactor, limits, {"FAKE", {}, "here", ""},
                           {"FAKE", {}, "there", ""}) {}

  /// Starts a command; `size_bytes` of data or `data` of the host.
  std::shared_ptr<FakeRequest> Begin(const nvme::Command& command, size_t size_bytes = 0,
                                     std::span<const std::byte> data = {}) {
    auto request = std::make_shared<FakeRequest>();
    requests_.push_back(request);
    request->command = command;
    request->queue_pair = this;
    request->data.assign(data.begin(), data.end());
    if (data.empty()) request->data.resize(size_bytes);
    request->host_size = static_cast<uint32_t>(request->data.size());
    Start(*request);
    return request;
  }
  /// The same, and waits for its end.
  std::shared_ptr<FakeRequest> Run(const nvme::Command& command, size_t size_bytes = 0,
                                   std::span<const std::byte> data = {}) {
    auto request = Begin(command, size_bytes, data);
    EXPECT_TRUE(reactor().RunUntil([&] { return request->answered; }, std::chrono::seconds(10)));
    return request;
  }

  /// Starts a Connect command of host `host_nqn`.
  std::shared_ptr<FakeRequest> BeginConnect(
      const std::string& nqn, uint16_t queue_id = 0,
      uint16_t controller_id = nvme::ConnectData::kAnyControllerId,
      const std::string& host_nqn = "nqn.2016-06.io.spdk:host") {
    nvme::ConnectCommand command;
    command.queue_id = queue_id;
    command.sq_size = 31;
    nvme::ConnectData data;
    data.controller_id = controller_id;
    nvme::SetPadded(data.subsystem_nqn, nqn, '\0');
    nvme::SetPadded(data.host_nqn, host_nqn, '\0');
    return Begin(std::bit_cast<nvme::Command>(command), 0, std::as_bytes(std::span(&data, 1)));
  }
  nvme::Status Connect(const std::string& nqn, uint16_t queue_id = 0,
                       uint16_t controller_id = nvme::ConnectData::kAnyControllerId) {
    auto request = BeginConnect(nqn, queue_id, controller_id);
    EXPECT_TRUE(reactor().RunUntil([&] { return request->answered; }, std::chrono::seconds(10)));
    return request->status();
  }
  /// Connects and enables the admin queue of a new controller.
  void ConnectAdmin(const std::string& nqn) {
    EXPECT_EQ(Connect(nqn), nvme::Status::kSuccess);
    EXPECT_EQ(
        controller().WriteProperty(static_cast<uint32_t>(nvme::Property::kCc), 4,
                                   nvme::kCcEnable | nvme::kSqEntryShift << nvme::kCcIosqesShift |
                                       nvme::kCqEntryShift << nvme::kCcIocqesShift),
        nvme::Status::kSuccess);
  }

  /// The connection ends.
  void Hangup() {
    if (!closed()) Close();
  }
  /// Whether the target has forgotten it.
  bool detached() const { return detached_; }
  /// The connection ends; runs the reactor until the target has forgotten it.
  void Drop() {
    if (!closed()) Close();
    EXPECT_TRUE(reactor().RunUntil([&] { return detached_; }, std::chrono::seconds(10)));
  }

  /// The data of a write, which were held back (see has_data), have come.
  void Deliver(FakeRequest& request) {
    PointToData(request);
    Execute(request);
  }

  bool has_data = true;     // false: the data of writes come later
  bool has_buffers = true;  // false: commands with data to the host wait for memory

 private:
  static void PointToData(FakeRequest& request) {
    request.data_iov = {request.data.data(), request.data_size};
    request.iovs = &request.data_iov;
    request.iov_count = 1;
  }
  void ReceiveData(Request& request) override {
    if (has_data) Deliver(static_cast<FakeRequest&>(request));
  }
  bool AcquireBuffer(Request& request) override {
    PointToData(static_cast<FakeRequest&>(request));
    return has_buffers;
  }
  void KeepData(Request& /*request*/) override {}
  void Respond(Request& request) override {
    static_cast<FakeRequest&>(request).answered = true;
    ReleaseData(request);
  }
  void OnConnected() override {}
  bool Abort(uint16_t cid) override {
    for (auto& request : requests_) {
      if (!request->answered && request->command.cid == cid) return AbortIo(*request);
    }
    return false;
  }
  void CatchUp() override {}
  void VisitRequests(void (*visit)(Request&)) override {
    for (auto& request : requests_) visit(*request);
  }
  void Disconnect() override {
    if (!closed()) Close();
  }
  void OnDetached() override { detached_ = true; }

  std::vector<std::shared_ptr<FakeRequest>> requests_;
  bool detached_ = false;
};

}  // namespace sma::target::nvmf
