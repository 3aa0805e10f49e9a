// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/errno_or.h"
#include "storage_target/bdev/bdev.h"

namespace sma::storage_target::bdev {

/// An observer of all bdevs. Called on the control reactor.
class RegistryObserver {
 public:
  virtual ~RegistryObserver() = default;
  virtual void OnBdevRegistered(Bdev& /*bdev*/) {}
  /// Called when the bdev is being removed and can no longer be found by name.
  virtual void OnBdevUnregistered(Bdev& /*bdev*/) {}
  virtual void OnBdevResized(Bdev& /*bdev*/) {}
};

/// All bdevs, by name and by UUID. Used only on the control reactor. Outlives every descriptor and
/// channel. Errors are positive errno values.
class Registry {
 public:
  explicit Registry(Reactor& control);
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  Reactor& control() const { return control_; }

  /// Adds `bdev` and notifies the observers. Returns 0; EEXIST if its name or UUID is the name or
  /// an alias of another bdev; EBUSY if another bdev, possibly one that is being removed, has the
  /// same medium, unless both are read-only; EINVAL for an empty name, an invalid block size or
  /// zero blocks.
  int Register(std::unique_ptr<Bdev> bdev);

  /// Finds a bdev by name or by the text form of its UUID. Returns nullptr if there is none or it
  /// is being removed.
  Bdev* Find(std::string_view name) const;
  /// Returns all bdevs in the order of registration, except those that are being removed.
  std::vector<Bdev*> List() const;

  enum class Access { kRead, kWrite };
  /// Opens a bdev. Returns ENODEV if there is no such bdev; EPERM if it is to be opened for writing
  /// but is claimed by another owner; EROFS if it is to be opened for writing but is read-only, in
  /// which case kRead can be used. `events` may be null only for an owner that closes the bdev
  /// before any removal (a test).
  base::ErrnoOr<std::unique_ptr<Descriptor>> Open(std::string_view name, Access access,
                                                  DescriptorEvents* events);

  /// Removes the bdev even if it is in use: notifies its owners, and destroys it and calls `done`
  /// when its last descriptor and channel are destroyed. `done` never runs before the return. If
  /// the bdev is already being removed, `done` is called when that removal ends.
  void Unregister(Bdev& bdev, std::function<void()> done);
  /// Implements bdev_MODULE_delete: returns ENODEV, and never calls `done`, if `module` has no bdev
  /// `name`.
  int Unregister(std::string_view name, std::string_view module, std::function<void()> done);

  /// Changes the size and notifies owners and observers. Returns EINVAL for 0, and EBUSY if an open
  /// bdev would shrink.
  int Resize(Bdev& bdev, uint64_t block_count);

  /// Holds new I/O, aborts or waits for the I/O in flight, resets the device, and resumes I/O; then
  /// calls `done` with 0 or an errno value (EBUSY if another reset is in progress; ENODEV if the
  /// bdev was removed in the meantime).
  void Reset(Bdev& bdev, std::function<void(int error)> done);

  /// Resets the counters, or only the minimum and maximum latencies; calls `done` when all channels
  /// have done so.
  enum class StatsPart { kAll, kMinMax };
  void ResetStats(Bdev& bdev, StatsPart part, std::function<void()> done);

  /// Sets the limits of a bdev. They take effect immediately, also for I/O that is waiting because
  /// of the previous limits. Setting the current limits changes nothing.
  void SetLimits(Bdev& bdev, const Limits& limits);

  /// Appends the configuration that a module saves besides its bdevs: its options, and connections
  /// that create bdevs. Registered for the registry's lifetime.
  using ConfigSource = std::function<void(std::vector<ConfigCall>& calls)>;
  void AddConfigSource(ConfigSource source) { config_sources_.push_back(std::move(source)); }
  /// Appends the calls that recreate all bdevs: first those of the sources, then those of the
  /// bdevs.
  void SaveConfig(std::vector<ConfigCall>& calls) const;

  void AddObserver(RegistryObserver* observer);
  void RemoveObserver(RegistryObserver* observer);

 private:
  friend class Descriptor;

  void Close(Descriptor& descriptor);
  // Posts a task that destroys the bdev with this serial number if it is being removed and is no
  // longer in use.
  void FinishLater(uint64_t serial);
  void FinishIfUnused(uint64_t serial);
  void ResetDevice(uint64_t serial, const std::function<void(int error)>& done);
  void EndReset(uint64_t serial, int error, const std::function<void(int error)>& done);
  Bdev* FindSerial(uint64_t serial) const;
  bool MediumIsTaken(const Bdev::Info& info) const;

  Reactor& control_;
  uint64_t last_serial_ = 0;
  std::map<uint64_t, std::unique_ptr<Bdev>> bdevs_;  // by serial number
  std::map<std::string, Bdev*, std::less<>> names_;  // contains both names and UUIDs
  std::multimap<std::string, const Bdev*> media_;
  std::vector<RegistryObserver*> observers_;
  std::vector<ConfigSource> config_sources_;
};

}  // namespace sma::storage_target::bdev
