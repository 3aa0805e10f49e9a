// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "storage_target/bdev_modules/iscsi/command.h"
#include "storage_target/bdev_modules/iscsi/lun_info.h"
#include "storage_target/bdev_modules/iscsi/session.h"

namespace sma::storage_target::bdev_iscsi {

/// Queries the properties of a logical unit, one command at a time. Destroyed after it has ended,
/// or after the session's AbortAll.
class LunProbe {
 public:
  /// `info` is nullopt if the unit is not a usable disk.
  using Done = std::function<void(std::optional<LunInfo> info)>;

  /// `done` may destroy the probe.
  LunProbe(Session& session, Done done);
  LunProbe(const LunProbe&) = delete;
  LunProbe& operator=(const LunProbe&) = delete;

 private:
  struct Question : Command {
    LunProbe* probe = nullptr;
  };
  enum class Step : uint8_t {
    kInquiry,
    kCapacity,
    kIdentity,
    kLimits,
    kProvisioning,
    kMode,
    kEnd,
  };

  void Ask();
  /// Evaluates an answer. Returns false if it shows that the unit is not a usable disk.
  bool Take(Bytes answer);

  Session& session_;
  const Done done_;
  Step step_ = Step::kInquiry;
  LunInfo info_;
  Question question_;
  std::array<uint8_t, 1024> buffer_{};
};

}  // namespace sma::storage_target::bdev_iscsi
