#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "target/bdev/registry.h"
#include "target/bdev_modules/iscsi/lun_info.h"
#include "target/bdev_modules/iscsi/lun_watch.h"
#include "target/bdev_modules/iscsi/session.h"

namespace sma::target::bdev_iscsi {

inline constexpr char kIscsiModule[] = "iscsi";

/// A logical unit of an iSCSI target. Each channel has a session of its own.
class IscsiBdev : public bdev::Bdev {
 public:
  IscsiBdev(bdev::Registry& registry, std::string name, const Session::Options& session,
            const LunInfo& info);
  ~IscsiBdev() override;

  std::string_view module() const override { return kIscsiModule; }
  bool Supports(bdev::IoType type) const override;
  bdev::Object DriverSpecific() const override;
  /// Nothing for one with CHAP, whose secrets are not written down.
  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const override;

  /// Ends the I/O that is under way in all channels. For a bdev that is going.
  void EndIo();

  // For the channels, in their own threads.
  void AddSession(Reactor& reactor, std::shared_ptr<Session> session);
  void RemoveSession(const Session& session);
  const Session::Options& session_options() const { return session_; }
  const LunInfo& lun() const { return lun_; }
  LunWatch& watch() const { return *watch_; }

 protected:
  std::unique_ptr<bdev::Channel> MakeChannel(Reactor& reactor) override;

 private:
  static Info MakeInfo(std::string name, const LunUrl& url, const LunInfo& info);
  void OnCapacity(const Capacity& capacity);

  bdev::Registry& registry_;
  const Session::Options session_;
  const LunInfo lun_;
  std::shared_ptr<LunWatch> watch_;
  base::Mutex mutex_;
  std::vector<std::pair<Reactor*, std::shared_ptr<Session>>> sessions_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::target::bdev_iscsi
