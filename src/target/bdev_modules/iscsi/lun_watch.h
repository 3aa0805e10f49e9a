#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "target/bdev_modules/iscsi/command.h"
#include "target/bdev_modules/iscsi/lun_info.h"
#include "target/bdev_modules/iscsi/session.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_iscsi {

/// Looks whether a logical unit has another capacity: every few seconds, and when the unit says so.
/// In the control reactor.
class LunWatch : public std::enable_shared_from_this<LunWatch>, private Session::Observer {
 public:
  /// The unit has this capacity. Called after each look.
  using OnCapacity = std::function<void(const Capacity& capacity)>;

  static std::shared_ptr<LunWatch> Start(Reactor& control, const Session::Options& options,
                                         OnCapacity on_capacity);
  LunWatch(const LunWatch&) = delete;
  LunWatch& operator=(const LunWatch&) = delete;

  /// `on_capacity` is not called any more.
  void Stop();
  /// From any thread: looks soon.
  void LookSoon();

 private:
  LunWatch(Reactor& control, OnCapacity on_capacity);
  void OnUnitAttention(uint16_t asc_ascq) override;
  void ScheduleLook();
  void Look();
  static void OnAnswer(Command& command, const CommandResult& result);

  Reactor& control_;
  const OnCapacity on_capacity_;
  bool stopped_ = false;
  bool looking_ = false;
  std::shared_ptr<Session> session_;
  Reactor::TimerId timer_ = 0;

  struct Question : Command {
    LunWatch* watch = nullptr;
    std::array<uint8_t, 32> answer{};
  };
  Question question_;
};

}  // namespace sma::target::bdev_iscsi
