// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/probe/iscsi_login.h"
#include "agent/record/record.h"
#include "agent/volume/remote_nodes.h"
#include "agent/volume/request.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"
#include "sma.pb.h"
#include "sma/outcome.h"

namespace sma::volume {

/// Volumes that are logical units of iSCSI targets. Each has its own bdev, named after the volume's
/// id. Thread-safe; the methods block.
class IscsiUnits {
 public:
  using SecretsOf = std::function<absl::StatusOr<VolumeParameters>(const record::Volume& row)>;

  /// The references must outlive this object.
  IscsiUnits(std::chrono::nanoseconds timeout, jsonrpc::Caller& target, record::Record& record,
             RemoteNodes& nodes, SecretsOf secrets_of);

  /// Connects the logical unit. Returns NOT_FOUND, with the reason, if the unit was not found;
  /// ALREADY_EXISTS, without having done anything, if another volume is this unit or another bdev
  /// has the name; UNAVAILABLE if the portal has not answered recently.
  Outcome Connect(const base::Context& context, const VolumeParameters& secrets,
                  const record::Volume& row);

  /// Recreates the bdev if it is missing. Never waits for a portal that does not answer: returns
  /// UNAVAILABLE while the unit is being connected in the background.
  absl::Status Restore(const base::Context& context, const record::Volume& row);
  bool IsRestoring(const record::Volume& row) const;
  void EndAttempts(const record::Volume& row);
  /// Returns true if the portal answers a login at present, whatever the answer is. Sends the login
  /// from this host, and takes at most about two seconds.
  static bool DoesPortalAnswer(const base::Context& context, const record::Volume& row);

  /// Returns true if the portal answers that it has no such target. Queries the portal as
  /// DoesPortalAnswer does.
  bool HasNoTarget(const base::Context& context, const record::Volume& row) const;
  /// Returns true if the target at the volume's portal accepts this login now. Like
  /// DoesPortalAnswer, it sends the login from this host and takes at most about two seconds.
  static bool AcceptsLogin(const base::Context& context, const record::Volume& row,
                           const VolumeRequest& login);

  /// Deletes the bdev. Returns OK if it does not exist.
  absl::Status Release(const base::Context& context, const record::Volume& row);

  /// Returns the volume of a key given to RemoteNodes; nullopt if the key does not belong to a
  /// logical unit.
  static std::optional<base::Uuid> VolumeOf(const std::string& key);

 private:
  absl::Status Reserve(const record::Volume& row);
  absl::Status Create(const base::Context& context, const VolumeParameters& secrets,
                      const record::Volume& row);
  absl::Status Retry(const base::Context& context, const base::Uuid& volume);
  static probe::LoginAnswer ProbeLogin(const base::Context& context, const record::Volume& row);
  static std::string WhyPortalUnreachable(const base::Context& context, const std::string& portal);
  std::string WhyNotFound(const base::Context& context, const record::Volume& row,
                          const VolumeParameters& secrets) const;

  const std::chrono::nanoseconds timeout_;
  jsonrpc::Caller& target_;
  record::Record& record_;
  RemoteNodes& nodes_;
  const SecretsOf secrets_of_;
  base::Mutex mutex_;
  // Keyed by target name and LUN, regardless of the portal through which the unit is reached.
  std::map<std::pair<std::string, uint32_t>, base::Uuid> volumes_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
