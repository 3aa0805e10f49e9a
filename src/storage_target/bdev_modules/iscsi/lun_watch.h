// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "storage_target/bdev_modules/iscsi/command.h"
#include "storage_target/bdev_modules/iscsi/lun_info.h"
#include "storage_target/bdev_modules/iscsi/session.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_iscsi {

/// Detects changes of a logical unit's capacity, and its replacement by another unit: verifies its
/// identity and reads the capacity every few seconds and when the unit reports a change. Used only
/// on the control reactor.
class LunWatch : public std::enable_shared_from_this<LunWatch>, private Session::Observer {
 public:
  struct Callbacks {
    /// Called with the capacity each time it has been read.
    std::function<void(const Capacity& capacity)> on_capacity;
    /// Called when the unit may have been replaced (Session::Observer::OnMayBeReplaced).
    std::function<void()> on_may_be_replaced;
  };

  static std::shared_ptr<LunWatch> Start(Reactor& control, const Session::Options& options,
                                         Callbacks callbacks);
  LunWatch(const LunWatch&) = delete;
  LunWatch& operator=(const LunWatch&) = delete;

  /// Stops the watch: the callbacks are not called afterwards.
  void Stop();
  /// Reads the capacity soon. Thread-safe.
  void ReadSoon();
  /// Verifies the unit's identity soon. Thread-safe.
  void VerifySoon();

 private:
  LunWatch(Reactor& control, Callbacks callbacks);
  void OnUnitAttention(uint16_t asc_ascq) override;
  void OnMayBeReplaced() override { callbacks_.on_may_be_replaced(); }
  void ScheduleRead();
  void ReadNow();
  static void OnAnswer(Command& command, const CommandResult& result);

  Reactor& control_;
  const Callbacks callbacks_;
  bool stopped_ = false;
  bool reading_ = false;
  std::shared_ptr<Session> session_;
  Reactor::TimerId timer_ = 0;

  struct Question : Command {
    LunWatch* watch = nullptr;
    std::array<uint8_t, 32> answer{};
  };
  Question question_;
};

}  // namespace sma::storage_target::bdev_iscsi
