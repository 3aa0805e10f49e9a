// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/vhost.h"
#include "base/context.h"
#include "devices/vhost_blk/known_controllers.h"
#include "devices/vhost_blk/listing.h"
#include "devices/vhost_blk/options.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"
#include "sma/outcome.h"

namespace sma::vhost_blk {

/// The vhost-user controllers of the target. Remembers those that it has seen, so that most calls
/// take one round trip. All methods block while they call the target, and return UNAVAILABLE or
/// another error if it does not answer. Thread-safe.
class Controllers {
 public:
  /// Both references must outlive this object.
  Controllers(jsonrpc::Caller& target, const Options& options)
      : target_(target), options_(options) {}

  /// Returns the controller; nullopt if there is none of this name.
  absl::StatusOr<std::optional<spdk::VhostController>> Find(const base::Context& context,
                                                            const std::string& name);
  /// As Find(), but without a call if the last listing had no controller of this name.
  absl::StatusOr<std::optional<spdk::VhostController>> FindUnlessAbsent(
      const base::Context& context, const std::string& name);
  /// Returns all controllers with their bdevs.
  absl::StatusOr<std::unique_ptr<Listing>> List(const base::Context& context);

  /// Creates a controller for the volume, and returns the name of its bdev. Returns ALREADY_EXISTS
  /// if the name or the volume is in use, and NOT_FOUND if the volume does not exist.
  OutcomeOr<std::string> Make(const base::Context& context, const std::string& name,
                              const DeviceVolume& volume);
  /// Returns OK if the controller no longer exists, and UNAVAILABLE if a VM is still connected to
  /// it after Options::busy_wait.
  absl::Status Delete(const base::Context& context, const std::string& name);
  /// Returns true if the controller, if it exists, is one that a failed CreateDevice of `volume`
  /// may have created, and false if another client created it. `volume` may be null.
  absl::StatusOr<bool> IsOfFailedCreate(const base::Context& context, const std::string& name,
                                        const DeviceVolume* volume);
  /// Returns ALREADY_EXISTS if another controller uses the bdev of the controller `name`.
  absl::Status CheckOnlyUser(const base::Context& context, const std::string& name,
                             const spdk::Bdev& bdev);

 private:
  absl::Status NoteListing(const absl::StatusOr<jsonrpc::Json>& answer);
  absl::Status CheckOtherUsers(const base::Context& context, const std::string& name,
                               const std::string& bdev_name, const base::Uuid& volume);
  OutcomeOr<std::string> WhyRefused(const base::Context& context, const std::string& name,
                                    const DeviceVolume& volume,
                                    const std::optional<spdk::Bdev>& bdev,
                                    const absl::Status& refusal);

  jsonrpc::Caller& target_;
  const Options& options_;
  KnownControllers known_;
};

}  // namespace sma::vhost_blk
