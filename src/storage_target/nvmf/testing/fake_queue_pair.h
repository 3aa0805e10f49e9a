// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvme/property.h"
#include "storage_target/nvmf/target.h"
#include "storage_target/nvmf/transport_queue_pair.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

/// A transport without a network, for tests: commands and their data are passed in memory. A single
/// reactor, which runs on the test's thread, is both the control reactor and the I/O reactor.
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

  /// Starts a command with `size_bytes` of data, or with `data` from the host.
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
  /// Like Begin, but waits for the completion.
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

  /// Returns how often the target has asked this queue pair to process what the host has sent.
  size_t process_received_count() const { return process_received_count_; }

  /// Ends the connection.
  void Hangup() {
    if (!closed()) Close();
  }
  /// Returns true once the target no longer refers to this queue pair.
  bool detached() const { return detached_; }
  /// Ends the connection and runs the reactor until the target no longer refers to this queue pair.
  void Drop() {
    if (!closed()) Close();
    EXPECT_TRUE(reactor().RunUntil([&] { return detached_; }, std::chrono::seconds(10)));
  }

  /// Delivers the data of a write that was held back (see has_data).
  void Deliver(FakeRequest& request) {
    PointToData(request);
    Execute(request);
  }

  bool has_data = true;     // false: the data of writes arrives later
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
  void ProcessReceived() override { ++process_received_count_; }
  void VisitRequests(void (*visit)(Request&)) override {
    for (auto& request : requests_) visit(*request);
  }
  void Disconnect() override {
    if (!closed()) Close();
  }
  void OnDetached() override { detached_ = true; }

  std::vector<std::shared_ptr<FakeRequest>> requests_;
  bool detached_ = false;
  size_t process_received_count_ = 0;
};

}  // namespace sma::storage_target::nvmf
