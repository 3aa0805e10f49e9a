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
#include "target/bdev/bdev.h"

namespace sma::target::bdev {

/// Told of every bdev. All run in the control reactor.
class RegistryObserver {
 public:
  virtual ~RegistryObserver() = default;
  virtual void OnBdevRegistered(Bdev& /*bdev*/) {}
  /// It is going; not found by name any more.
  virtual void OnBdevUnregistered(Bdev& /*bdev*/) {}
  virtual void OnBdevResized(Bdev& /*bdev*/) {}
};

/// All bdevs, by name and by UUID. Used in the control reactor only. Outlives every descriptor and
/// channel. Errors are positive errno values.
class Registry {
 public:
  explicit Registry(Reactor& control);
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  Reactor& control() const { return control_; }

  /// Takes `bdev` in and tells the observers. 0; EEXIST when its name or UUID is another's name or
  /// alias; EBUSY when another bdev, which may be on its way out, has the same medium, unless both
  /// are read-only; EINVAL for an empty name, a block size that is none or no blocks.
  int Register(std::unique_ptr<Bdev> bdev);

  /// By name, or by the text of its UUID; nullptr when there is none or it is going.
  Bdev* Find(std::string_view name) const;
  /// In the order of registration, without those that are going.
  std::vector<Bdev*> List() const;

  enum class Access { kRead, kWrite };
  /// ENODEV: no such bdev. EPERM: to write, and somebody claimed it. EROFS: to write, and it is
  /// read-only; kRead then works. `events` may be null only for an owner that is quicker than any
  /// removal (a test).
  base::ErrnoOr<std::unique_ptr<Descriptor>> Open(std::string_view name, Access access,
                                                  DescriptorEvents* events);

  /// Removes it, in use or not: its owners are told, and when the last descriptor and channel is
  /// gone it is destroyed and `done` called. `done` never runs before the return. Again: `done`
  /// waits for the same end.
  void Unregister(Bdev& bdev, std::function<void()> done);
  /// What bdev_MODULE_delete does: ENODEV when there is no bdev `name` of `module`, and `done` is
  /// not called.
  int Unregister(std::string_view name, std::string_view module, std::function<void()> done);

  /// A new size, told to owners and observers. EINVAL: 0; EBUSY: smaller, and it is open.
  int Resize(Bdev& bdev, uint64_t block_count);

  /// Holds new I/O back, aborts or waits for what is outstanding, resets the device, lets I/O go
  /// on; then `done` with 0 or an errno value (EBUSY: another reset is going on; ENODEV: removed
  /// meanwhile).
  void Reset(Bdev& bdev, std::function<void(int error)> done);

  /// Sets the counters to zero, or the smallest and largest latencies only; `done` when all
  /// channels have.
  enum class StatsPart { kAll, kMinMax };
  void ResetStats(Bdev& bdev, StatsPart part, std::function<void()> done);

  /// From now on, also for I/O that waits for the limits before. The same limits again change
  /// nothing.
  void SetLimits(Bdev& bdev, const Limits& limits);

  /// What a module saves beside its bdevs: its options, connections that bdevs come from by
  /// themselves. For as long as the registry lives.
  using ConfigSource = std::function<void(std::vector<ConfigCall>& calls)>;
  void AddConfigSource(ConfigSource source) { config_sources_.push_back(std::move(source)); }
  /// Appends the calls that make all bdevs again: first what sources say, then the bdevs.
  void SaveConfig(std::vector<ConfigCall>& calls) const;

  void AddObserver(RegistryObserver* observer);
  void RemoveObserver(RegistryObserver* observer);

 private:
  friend class Descriptor;

  void Close(Descriptor& descriptor);
  // Soon: destroys the bdev of this serial number if it is going and nobody uses it any more.
  void FinishLater(uint64_t serial);
  void FinishIfUnused(uint64_t serial);
  void ResetDevice(uint64_t serial, const std::function<void(int error)>& done);
  void EndReset(uint64_t serial, int error, const std::function<void(int error)>& done);
  Bdev* FindSerial(uint64_t serial) const;
  bool MediumIsTaken(const Bdev::Info& info) const;

  Reactor& control_;
  uint64_t last_serial_ = 0;
  std::map<uint64_t, std::unique_ptr<Bdev>> bdevs_;  // by serial number
  std::map<std::string, Bdev*, std::less<>> names_;  // names and UUIDs
  std::multimap<std::string, const Bdev*> media_;
  std::vector<RegistryObserver*> observers_;
  std::vector<ConfigSource> config_sources_;
};

}  // namespace sma::target::bdev
