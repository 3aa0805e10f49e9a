#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/record/rows.h"
#include "agent/volume/controllers.h"
#include "agent/volume/discovery.h"
#include "base/context.h"
#include "jsonrpc/caller.h"
#include "sma.pb.h"
#include "sma/outcome.h"

namespace sma::volume {

/// The connections to volumes on other machines: what `row.params` asks for becomes a bdev whose
/// name or alias is the volume's id. Nothing is done for a volume that is a bdev of the target's
/// own. Thread-safe, as Volumes is; the methods block.
class Connections {
 public:
  /// `target` outlives this. `rows`: from which is counted who uses what.
  Connections(std::chrono::nanoseconds timeout, jsonrpc::Caller& target,
              const std::vector<record::Volume>& rows);

  /// What a volume that is connected like this may come to use: record::Volume::connection.
  static std::string Plan(const VolumeParameters& params);

  /// Connects, and waits for the bdev; `row.connection` is then what it uses. After an error:
  /// Release, unless it is ALREADY_EXISTS, where nothing was done. NOT_FOUND: it did not appear in
  /// time. INVALID_ARGUMENT: it is not in the subsystem asked for. ALREADY_EXISTS: another bdev has
  /// the name.
  Outcome Connect(const base::Context& context, const VolumeParameters& secrets,
                  record::Volume& row);

  /// Connects an attached volume in the ways of `asked` besides those that it has, makes sure of
  /// the others as Restore does, and waits for the bdev. INVALID_ARGUMENT: `asked` is another kind
  /// of connection, or another subsystem or logical unit.
  absl::Status Extend(const base::Context& context, const VolumeParameters& asked,
                      const VolumeParameters& secrets, record::Volume& row);

  /// Disconnects what no other volume uses. OK when there is nothing left to do.
  absl::Status Release(const base::Context& context, const record::Volume& row);

  /// Asks the target what it is connected to, where any of `rows` needs to know.
  absl::Status Look(const base::Context& context, bool any_discovery, bool any_direct);

  /// Makes again what is missing of the connection of an attached volume.
  absl::Status Restore(const base::Context& context, const VolumeParameters& secrets,
                       record::Volume& row);

 private:
  absl::Status JoinServices(const base::Context& context, record::Volume& row);
  absl::Status RestoreServices(const base::Context& context, record::Volume& row);
  Outcome JoinController(const base::Context& context, record::Volume& row);
  Outcome CreateIscsi(const base::Context& context, const VolumeParameters& secrets,
                      const record::Volume& row);
  /// Services that ask as another host than the volume's; to be added to a message.
  std::string OtherHosts(const record::Volume& row) const;
  absl::Status WaitForBdev(const base::Context& context, const std::string& subnqn,
                           const record::Volume& row, base::TimePoint until);

  const std::chrono::nanoseconds timeout_;
  jsonrpc::Caller& target_;
  DiscoveryServices services_;
  Controllers controllers_;
};

}  // namespace sma::volume
