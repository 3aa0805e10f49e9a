#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "target/bdev_modules/iscsi/command.h"
#include "target/bdev_modules/iscsi/lun_info.h"
#include "target/bdev_modules/iscsi/session.h"

namespace sma::target::bdev_iscsi {

/// Asks a logical unit what it is. One at a time; destroyed when it has ended, or after the
/// session's AbortAll.
class LunProbe {
 public:
  /// nullopt: no disk is there.
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
  /// False: what it says is no disk.
  bool Take(Bytes answer);

  Session& session_;
  const Done done_;
  Step step_ = Step::kInquiry;
  LunInfo info_;
  Question question_;
  std::array<uint8_t, 1024> buffer_{};
};

}  // namespace sma::target::bdev_iscsi
