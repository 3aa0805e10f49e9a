// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/feature_commands.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "storage_target/nvmf/features.h"
#include "storage_target/nvmf/queue_pair.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::AdminOpcode;
using nvme::Feature;
using nvme::FeatureSelect;
using nvme::Status;

constexpr uint32_t kExtendedHostId = 1u << 0;  // EXHID, cdw11 of kHostIdentifier
constexpr uint32_t kChangeable = 1u << 2;      // bit of FeatureSelect::kCapabilities
constexpr uint64_t kTimestampMask = (uint64_t{1} << 48) - 1;
constexpr uint64_t kTimestampSetByHost = uint64_t{1} << 49;  // origin 001b in bits 51:49

Feature FeatureOf(const nvme::Command& command) {
  return static_cast<Feature>(command.cdw10 & 0xff);
}

// Returns true if the controller has the feature. Discovery controllers have only some (NVMe Base
// 2.0 §3.1.2.3.4).
bool Exists(const Controller& controller, Feature feature) {
  switch (feature) {
    case Feature::kAsyncEventConfig:
    case Feature::kKeepAliveTimer:
    case Feature::kHostIdentifier:
      return true;
    case Feature::kArbitration:
    case Feature::kPowerManagement:
    case Feature::kTemperatureThreshold:
    case Feature::kErrorRecovery:
    case Feature::kVolatileWriteCache:
    case Feature::kNumberOfQueues:
    case Feature::kWriteAtomicity:
    case Feature::kTimestamp:
      return !controller.is_discovery();
    default:
      return false;
  }
}

// Both counts are 0's based.
uint32_t QueueCounts(const Controller& controller) {
  uint32_t count = controller.io_queue_limit() - 1;
  return count << 16 | count;
}

Status GrantQueues(Controller& controller, uint32_t wanted, uint64_t& result) {
  uint32_t submission = wanted & 0xffff;
  uint32_t completion = wanted >> 16;
  if (submission == 0xffff || completion == 0xffff) return Status::kInvalidField;
  controller.GrantIoQueues(
      std::min({submission + 1, completion + 1, controller.limits().max_io_queue_pairs}));
  result = QueueCounts(controller);
  return Status::kSuccess;
}

// Returns the threshold selected by cdw11 of kTemperatureThreshold, or nullptr if there is none.
uint16_t* Threshold(Features& features, uint32_t cdw11) {
  uint32_t sensor = cdw11 >> 16 & 0xf;
  uint32_t type = cdw11 >> 20 & 0x3;
  if (sensor >= features.over_temperature.size() || type > 1) return nullptr;
  return type == 0 ? &features.over_temperature[sensor] : &features.under_temperature[sensor];
}

Status SetThreshold(Features& features, uint32_t cdw11) {
  auto kelvins = static_cast<uint16_t>(cdw11);
  if ((cdw11 >> 16 & 0xf) == 0xf && (cdw11 >> 20 & 0x3) <= 1) {  // all sensors
    auto& all = (cdw11 >> 20 & 0x3) == 0 ? features.over_temperature : features.under_temperature;
    all.fill(kelvins);
    return Status::kSuccess;
  }
  uint16_t* threshold = Threshold(features, cdw11);
  if (threshold == nullptr) return Status::kInvalidField;
  *threshold = kelvins;
  return Status::kSuccess;
}

Status Store(uint32_t& feature, uint32_t value) {
  feature = value;
  return Status::kSuccess;
}

Status SetTimestamp(Features& features, const QueuePair& queue_pair, const Request& request) {
  uint64_t value = 0;
  QueuePair::CopyData(request, std::as_writable_bytes(std::span(&value, 1)));
  features.timestamp_ms = value & kTimestampMask;
  features.timestamp_set_ns = queue_pair.reactor().now_ns();
  return Status::kSuccess;
}

uint64_t Timestamp(const Features& features, const QueuePair& queue_pair) {
  uint64_t elapsed_ms = (queue_pair.reactor().now_ns() - features.timestamp_set_ns) / 1'000'000;
  if (features.timestamp_set_ns == 0) return elapsed_ms & kTimestampMask;
  return ((features.timestamp_ms + elapsed_ms) & kTimestampMask) | kTimestampSetByHost;
}

Status Set(QueuePair& queue_pair, Request& request, uint64_t& result) {
  Controller& controller = queue_pair.controller();
  Features& features = controller.features();
  uint32_t value = request.command.cdw11;
  switch (FeatureOf(request.command)) {
    case Feature::kArbitration:
      return Store(features.arbitration, value);
    case Feature::kPowerManagement:
      return (value & 0x1f) == 0 ? Store(features.power_management, value) : Status::kInvalidField;
    case Feature::kTemperatureThreshold:
      return SetThreshold(features, value);
    case Feature::kErrorRecovery:
      return Store(features.error_recovery, value);
    case Feature::kWriteAtomicity:
      return Store(features.write_atomicity, value & 1);
    case Feature::kVolatileWriteCache:
      controller.EnableWriteCache((value & 1) != 0);
      return Status::kSuccess;
    case Feature::kNumberOfQueues:
      return GrantQueues(controller, value, result);
    case Feature::kAsyncEventConfig:
      controller.async_events().set_config(value);
      return Status::kSuccess;
    case Feature::kKeepAliveTimer:
      controller.SetKeepAlive(value);
      return Status::kSuccess;
    case Feature::kTimestamp:
      return SetTimestamp(features, queue_pair, request);
    case Feature::kHostIdentifier:
      return Status::kCommandSequenceError;  // set by Connect (NVMe Base 2.0 §5.27.1.25)
    default:
      return Status::kInvalidField;
  }
}

// Gets the value of a feature whose value fits into completion dword 0.
Status Get(Controller& controller, const nvme::Command& command, bool by_default,
           uint64_t& result) {
  Features defaults;
  Features& features = by_default ? defaults : controller.features();
  switch (FeatureOf(command)) {
    case Feature::kArbitration:
      result = features.arbitration;
      return Status::kSuccess;
    case Feature::kPowerManagement:
      result = features.power_management;
      return Status::kSuccess;
    case Feature::kTemperatureThreshold: {
      const uint16_t* threshold = Threshold(features, command.cdw11);
      if (threshold == nullptr) return Status::kInvalidField;
      result = *threshold;
      return Status::kSuccess;
    }
    case Feature::kErrorRecovery:
      result = features.error_recovery;
      return Status::kSuccess;
    case Feature::kWriteAtomicity:
      result = features.write_atomicity;
      return Status::kSuccess;
    case Feature::kVolatileWriteCache:
      result = by_default || controller.write_cache_enabled() ? 1 : 0;
      return Status::kSuccess;
    case Feature::kNumberOfQueues:
      result = QueueCounts(controller);
      return Status::kSuccess;
    case Feature::kAsyncEventConfig:
      result = by_default ? 0 : controller.async_events().config();
      return Status::kSuccess;
    case Feature::kKeepAliveTimer:
      result = controller.keep_alive_ms();
      return Status::kSuccess;
    default:
      return Status::kInvalidField;
  }
}

// Returns false if there is no memory at present.
bool SendHostId(QueuePair& queue_pair, Request& request) {
  return queue_pair.SendData(request,
                             std::as_bytes(std::span(queue_pair.controller().host_id().bytes())));
}

}  // namespace

uint32_t FeatureDataSize(const nvme::Command& command) {
  bool get = command.opcode == static_cast<uint8_t>(AdminOpcode::kGetFeatures);
  bool value = !get || static_cast<FeatureSelect>(command.cdw10 >> nvme::kFeatureSelectShift &
                                                  0x7) != FeatureSelect::kCapabilities;
  if (!value) return 0;
  switch (FeatureOf(command)) {
    case Feature::kTimestamp:
      return 8;
    case Feature::kHostIdentifier:
      return (command.cdw11 & kExtendedHostId) != 0 ? 16 : 8;
    default:
      return 0;
  }
}

void SetFeatures(QueuePair& queue_pair, Request& request) {
  uint64_t result = 0;
  Status status = Status::kInvalidField;
  if (Exists(queue_pair.controller(), FeatureOf(request.command))) {
    bool save = (request.command.cdw10 & nvme::kFeatureSave) != 0;
    status = save ? Status::kFeatureNotSaveable : Set(queue_pair, request, result);
  }
  queue_pair.Complete(request, status, result);
}

void GetFeatures(QueuePair& queue_pair, Request& request) {
  Controller& controller = queue_pair.controller();
  Feature feature = FeatureOf(request.command);
  if (!Exists(controller, feature)) return queue_pair.Complete(request, Status::kInvalidField);
  auto select =
      static_cast<FeatureSelect>(request.command.cdw10 >> nvme::kFeatureSelectShift & 0x7);
  if (select > FeatureSelect::kCapabilities)
    return queue_pair.Complete(request, Status::kInvalidField);
  if (select == FeatureSelect::kCapabilities) {
    return queue_pair.Complete(request, Status::kSuccess,
                               feature == Feature::kHostIdentifier ? 0 : kChangeable);
  }
  if (feature == Feature::kHostIdentifier) {
    // Fabrics supports only the 128-bit form (NVMe Base 2.0 §5.27.1.25).
    if (request.data_size != 16) return queue_pair.Complete(request, Status::kInvalidField);
    if (SendHostId(queue_pair, request)) queue_pair.Complete(request, Status::kSuccess);
    return;
  }
  if (feature == Feature::kTimestamp) {
    uint64_t timestamp = Timestamp(controller.features(), queue_pair);
    if (queue_pair.SendData(request, std::as_bytes(std::span(&timestamp, 1)))) {
      queue_pair.Complete(request, Status::kSuccess);
    }
    return;
  }
  uint64_t result = 0;
  Status status = Get(controller, request.command, select != FeatureSelect::kCurrent, result);
  queue_pair.Complete(request, status, result);
}

}  // namespace sma::storage_target::nvmf
