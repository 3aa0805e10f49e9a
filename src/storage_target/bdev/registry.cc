// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/registry.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <utility>

#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev {
namespace {

constexpr uint32_t kMinBlockSize = 512;
constexpr uint32_t kMaxBlockSize = 1 << 20;

bool IsSound(const Bdev::Info& info) {
  return !info.name.empty() && std::has_single_bit(info.block_size) &&
         info.block_size >= kMinBlockSize && info.block_size <= kMaxBlockSize &&
         info.block_count != 0 && info.block_count <= UINT64_MAX / info.block_size;
}

}  // namespace

Registry::Registry(Reactor& control) : control_(control) {}

// Removes stacked bdevs, which hold their bases open, before their bases.
Registry::~Registry() {
  while (!bdevs_.empty()) bdevs_.erase(std::prev(bdevs_.end()));
}

int Registry::Register(std::unique_ptr<Bdev> bdev) {
  Bdev::Info& info = bdev->info_;
  if (!IsSound(info)) return EINVAL;
  if (info.uuid.is_nil()) info.uuid = base::Uuid::Random();
  std::string alias = info.uuid.ToString();
  if (names_.contains(info.name) || names_.contains(alias)) return EEXIST;
  if (MediumIsTaken(info)) return EBUSY;

  uint64_t serial = ++last_serial_;
  bdev->registry_ = this;
  bdev->serial_ = serial;
  bdev->channels_ =
      std::make_shared<ChannelTable>(control_, [this, serial] { FinishIfUnused(serial); });
  names_[info.name] = bdev.get();
  names_[alias] = bdev.get();
  if (!info.medium.empty()) media_.emplace(info.medium, bdev.get());
  Bdev& registered = *bdev;
  bdevs_[serial] = std::move(bdev);
  for (RegistryObserver* observer : std::vector(observers_)) observer->OnBdevRegistered(registered);
  return 0;
}

// Bdevs share a medium only if all of them are read-only.
bool Registry::MediumIsTaken(const Bdev::Info& info) const {
  auto found = media_.find(info.medium);
  return found != media_.end() && !(info.read_only && found->second->info().read_only);
}

Bdev* Registry::Find(std::string_view name) const {
  auto found = names_.find(name);
  if (found == names_.end()) {
    // The name may be a UUID in upper case.
    std::optional<base::Uuid> uuid = base::Uuid::Parse(name);
    if (uuid) found = names_.find(uuid->ToString());
  }
  if (found == names_.end() || found->second->removing_) return nullptr;
  return found->second;
}

std::vector<Bdev*> Registry::List() const {
  std::vector<Bdev*> list;
  for (const auto& [serial, bdev] : bdevs_) {
    if (!bdev->removing_) list.push_back(bdev.get());
  }
  return list;
}

Bdev* Registry::FindSerial(uint64_t serial) const {
  auto found = bdevs_.find(serial);
  return found == bdevs_.end() ? nullptr : found->second.get();
}

base::ErrnoOr<std::unique_ptr<Descriptor>> Registry::Open(std::string_view name, Access access,
                                                          DescriptorEvents* events) {
  using Result = base::ErrnoOr<std::unique_ptr<Descriptor>>;
  Bdev* bdev = Find(name);
  if (bdev == nullptr) return Result::Error(ENODEV);
  bool may_write = access == Access::kWrite;
  if (may_write && bdev->info().read_only) return Result::Error(EROFS);
  if (may_write && bdev->claimant_) return Result::Error(EPERM);
  std::unique_ptr<Descriptor> descriptor(new Descriptor(*this, *bdev, may_write, events));
  bdev->descriptors_.push_back(descriptor.get());
  return descriptor;
}

void Registry::Close(Descriptor& descriptor) {
  Bdev& bdev = descriptor.bdev_;
  std::erase(bdev.descriptors_, &descriptor);
  if (bdev.claim_holder_ == &descriptor) {
    bdev.claim_holder_ = nullptr;
    bdev.claimant_.reset();
  }
  if (bdev.removing_ && bdev.descriptors_.empty()) FinishLater(bdev.serial_);
}

void Registry::Unregister(Bdev& bdev, std::function<void()> done) {
  if (done) bdev.on_removed_.push_back(std::move(done));
  if (bdev.removing_) return;
  bdev.removing_ = true;
  bdev.gate_.fetch_or(Bdev::kRemoved);
  bdev.channels_->MarkRemoving();
  bdev.channels_->ForEach([](Channel& channel, const ChannelTable::Token&) { channel.PumpHeld(); },
                          [] {});
  for (RegistryObserver* observer : std::vector(observers_)) observer->OnBdevUnregistered(bdev);
  // Owners may close their own and other descriptors in the callback.
  for (Descriptor* descriptor : std::vector(bdev.descriptors_)) {
    bool still_open = std::find(bdev.descriptors_.begin(), bdev.descriptors_.end(), descriptor) !=
                      bdev.descriptors_.end();
    if (still_open && descriptor->events_ != nullptr) descriptor->events_->OnBdevRemove();
  }
  FinishLater(bdev.serial_);
}

int Registry::Unregister(std::string_view name, std::string_view module,
                         std::function<void()> done) {
  Bdev* bdev = Find(name);
  if (bdev == nullptr || bdev->module() != module) return ENODEV;
  Unregister(*bdev, std::move(done));
  return 0;
}

void Registry::FinishLater(uint64_t serial) {
  control_.Post([this, serial] { FinishIfUnused(serial); });
}

void Registry::FinishIfUnused(uint64_t serial) {
  Bdev* bdev = FindSerial(serial);
  if (bdev == nullptr || !bdev->removing_ || bdev->resetting_) return;
  if (!bdev->descriptors_.empty() || !bdev->channels_->empty()) return;
  std::vector<std::function<void()>> on_removed = std::move(bdev->on_removed_);
  names_.erase(bdev->info_.name);
  names_.erase(bdev->info_.uuid.ToString());
  std::erase_if(media_, [bdev](const auto& entry) { return entry.second == bdev; });
  bdevs_.erase(serial);
  for (const auto& done : on_removed) done();
}

int Registry::Resize(Bdev& bdev, uint64_t block_count) {
  if (block_count == 0 || block_count > UINT64_MAX / bdev.block_size()) return EINVAL;
  uint64_t before = bdev.block_count();
  if (block_count < before && !bdev.descriptors_.empty()) return EBUSY;
  if (block_count == before) return 0;
  bdev.block_count_.store(block_count, std::memory_order_relaxed);
  for (Descriptor* descriptor : std::vector(bdev.descriptors_)) {
    if (descriptor->events_ != nullptr) descriptor->events_->OnBdevResize();
  }
  for (RegistryObserver* observer : std::vector(observers_)) observer->OnBdevResized(bdev);
  return 0;
}

// Freezes I/O, waits until every channel is quiet, resets the device, and resumes I/O.
void Registry::Reset(Bdev& bdev, std::function<void(int error)> done) {
  if (bdev.resetting_) return control_.Post([done = std::move(done)] { done(EBUSY); });
  bdev.resetting_ = true;
  bdev.gate_.fetch_or(Bdev::kFrozen);
  bdev.channels_->ForEach(
      [](Channel& channel, ChannelTable::Token token) { channel.BeginReset(std::move(token)); },
      [this, serial = bdev.serial_, done = std::move(done)] { ResetDevice(serial, done); });
}

void Registry::ResetDevice(uint64_t serial, const std::function<void(int error)>& done) {
  Bdev* bdev = FindSerial(serial);
  if (bdev == nullptr || bdev->removing_) return EndReset(serial, ENODEV, done);
  bdev->ResetDevice([this, serial, done](int error) { EndReset(serial, error, done); });
}

void Registry::EndReset(uint64_t serial, int error, const std::function<void(int error)>& done) {
  Bdev* bdev = FindSerial(serial);
  if (bdev != nullptr) {
    bdev->resetting_ = false;
    bdev->gate_.fetch_and(~Bdev::kFrozen);
    bdev->channels_->ForEach(
        [](Channel& channel, const ChannelTable::Token&) { channel.PumpHeld(); }, [] {});
    if (bdev->removing_) FinishLater(serial);
  }
  done(error);
}

void Registry::ResetStats(Bdev& bdev, StatsPart part, std::function<void()> done) {
  bool min_max_only = part == StatsPart::kMinMax;
  bdev.channels_->ResetClosedStats(min_max_only);
  bdev.channels_->ForEach(
      [min_max_only](Channel& channel, const ChannelTable::Token&) {
        channel.ResetCounters(min_max_only);
      },
      std::move(done));
}

void Registry::SetLimits(Bdev& bdev, const Limits& limits) {
  if (bdev.limits_ == limits) return;
  bdev.limits_ = limits;
  bdev.limiter_.Set(limits, control_.now_ns());
  if (limits.any()) {
    bdev.gate_.fetch_or(Bdev::kLimited);
  } else {
    bdev.gate_.fetch_and(~Bdev::kLimited);
  }
  bdev.channels_->ForEach(
      [](Channel& channel, const ChannelTable::Token&) {
        channel.ForgetDueTimes();
        channel.PumpHeld();
      },
      [] {});
}

void Registry::SaveConfig(std::vector<ConfigCall>& calls) const {
  for (const ConfigSource& source : config_sources_) source(calls);
  for (const Bdev* bdev : List()) bdev->SaveConfig(calls);
}

void Registry::AddObserver(RegistryObserver* observer) { observers_.push_back(observer); }

void Registry::RemoveObserver(RegistryObserver* observer) { std::erase(observers_, observer); }

}  // namespace sma::storage_target::bdev
