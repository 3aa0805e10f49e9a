// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/lun_probe.h"

#include <utility>

namespace sma::storage_target::bdev_iscsi {

LunProbe::LunProbe(Session& session, Done done) : session_(session), done_(std::move(done)) {
  question_.probe = this;
  question_.done = [](Command& command, const CommandResult& result) {
    LunProbe& self = *static_cast<Question&>(command).probe;
    // Only these two answers are required; the other pages are optional.
    bool needed = self.step_ == Step::kInquiry || self.step_ == Step::kCapacity;
    bool sound = result.good() ? self.Take(Bytes(self.buffer_).first(result.data_bytes)) : !needed;
    if (!sound || result.kind != CommandResult::Kind::kStatus) return self.done_(std::nullopt);
    self.step_ = static_cast<Step>(static_cast<uint8_t>(self.step_) + 1);
    if (self.step_ == Step::kEnd) return self.done_(self.info_);
    self.Ask();
  };
  Ask();
}

void LunProbe::Ask() {
  constexpr uint16_t kPageBytes = sizeof buffer_;
  constexpr uint8_t kInquiryBytes = 96;
  constexpr uint8_t kCapacityBytes = 32;
  constexpr uint8_t kModeBytes = 192;
  uint16_t size_bytes = kPageBytes;
  switch (step_) {
    case Step::kInquiry:
      size_bytes = kInquiryBytes;
      MakeInquiry(question_, false, 0, size_bytes);
      break;
    case Step::kCapacity:
      size_bytes = kCapacityBytes;
      MakeReadCapacity(question_, kCapacityBytes);
      break;
    case Step::kIdentity:
      MakeInquiry(question_, true, kPageIdentification, size_bytes);
      break;
    case Step::kLimits:
      MakeInquiry(question_, true, kPageBlockLimits, size_bytes);
      break;
    case Step::kProvisioning:
      MakeInquiry(question_, true, kPageProvisioning, size_bytes);
      break;
    case Step::kMode:
      size_bytes = kModeBytes;
      MakeModeSense(question_, kModeBytes);
      break;
    case Step::kEnd:
      break;
  }
  buffer_.fill(0);  // removes the previous answer
  question_.SetData(Command::Direction::kIn, buffer_.data(), size_bytes);
  session_.Submit(question_);
}

bool LunProbe::Take(Bytes answer) {
  switch (step_) {
    case Step::kInquiry:
      return IsDisk(answer);
    case Step::kCapacity: {
      auto capacity = Capacity::Parse(answer);
      if (capacity) info_.capacity = *capacity;
      return capacity.has_value();
    }
    case Step::kIdentity:
      info_.identity = ParseIdentity(answer);
      return true;
    case Step::kLimits:
      info_.limits = BlockLimits::Parse(answer);
      return true;
    case Step::kProvisioning:
      info_.provisioning = Provisioning::Parse(answer);
      return true;
    case Step::kMode:
      info_.write_protected = IsWriteProtected(answer);
      return true;
    case Step::kEnd:
      break;
  }
  return true;
}

}  // namespace sma::storage_target::bdev_iscsi
