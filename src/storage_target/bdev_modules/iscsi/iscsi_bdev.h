// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/bdev_modules/iscsi/lun_info.h"
#include "storage_target/bdev_modules/iscsi/lun_watch.h"
#include "storage_target/bdev_modules/iscsi/session.h"

namespace sma::storage_target::bdev_iscsi {

inline constexpr char kIscsiModule[] = "iscsi";

/// A logical unit of an iSCSI target. Each channel has its own session.
class IscsiBdev : public bdev::Bdev {
 public:
  IscsiBdev(bdev::Registry& registry, std::string name, const Session::Options& session,
            const LunInfo& info);
  ~IscsiBdev() override;

  std::string_view module() const override { return kIscsiModule; }
  bool Supports(bdev::IoType type) const override;
  bdev::Object DriverSpecific() const override;
  /// Saves nothing for a bdev with CHAP, because secrets are not saved.
  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const override;

  /// Makes all sessions with the unit verify its identity. Thread-safe.
  void VerifySessions();
  /// Ends the I/O of all channels. Called when the bdev is removed.
  void EndIo();

  // Called by the channels, on their own threads.
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

}  // namespace sma::storage_target::bdev_iscsi
