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
#include "agent/record/record.h"
#include "agent/volume/remote_nodes.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"
#include "sma.pb.h"
#include "sma/outcome.h"

namespace sma::volume {

/// Volumes that are logical units of iSCSI targets: each has a bdev of its own, whose name is the
/// volume's id. Thread-safe; the methods block.
class IscsiUnits {
 public:
  using SecretsOf = std::function<absl::StatusOr<VolumeParameters>(const record::Volume& row)>;

  /// All outlive this.
  IscsiUnits(std::chrono::nanoseconds timeout, jsonrpc::Caller& target, record::Record& record,
             RemoteNodes& nodes, SecretsOf secrets_of);

  /// Connects. NOT_FOUND: the unit was not found, and why. ALREADY_EXISTS, and nothing is done:
  /// another volume is this unit, or another bdev has the name. UNAVAILABLE: the portal has not
  /// answered lately.
  Outcome Connect(const base::Context& context, const VolumeParameters& secrets,
                  const record::Volume& row);

  /// Makes the bdev again if it is missing. Never waits for a portal that does not answer.
  /// UNAVAILABLE: it is being connected in the background.
  absl::Status Restore(const base::Context& context, const record::Volume& row);
  bool IsRestoring(const record::Volume& row) const;
  void EndAttempts(const record::Volume& row);

  /// Deletes the bdev. OK when it does not exist.
  absl::Status Release(const base::Context& context, const record::Volume& row);

  /// The volume of a key given to RemoteNodes; nullopt: it is no logical unit's.
  static std::optional<base::Uuid> VolumeOf(const std::string& key);

 private:
  absl::Status Reserve(const record::Volume& row);
  absl::Status Create(const base::Context& context, const VolumeParameters& secrets,
                      const record::Volume& row);
  absl::Status TryAgain(const base::Context& context, const base::Uuid& volume);
  std::string WhyNotFound(const base::Context& context, const record::Volume& row) const;

  const std::chrono::nanoseconds timeout_;
  jsonrpc::Caller& target_;
  record::Record& record_;
  RemoteNodes& nodes_;
  const SecretsOf secrets_of_;
  base::Mutex mutex_;
  // By target and number, whichever portal it is reached by.
  std::map<std::pair<std::string, uint32_t>, base::Uuid> volumes_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
