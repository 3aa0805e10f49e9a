// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vfio_user/interrupts.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

namespace sma::storage_target::vfio_user {
namespace {

constexpr uint32_t kDataFlags =
    VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD;
constexpr uint32_t kActionFlags =
    VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER;

}  // namespace

IrqInfo Interrupts::Describe(uint32_t index) const {
  IrqInfo info;
  info.index = index;
  if (index == VFIO_PCI_INTX_IRQ_INDEX) {
    info.count = 1;
    info.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
  } else if (index == static_cast<uint32_t>(type_)) {
    info.count = vector_count();
    info.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE;
  }
  return info;
}

Interrupts::Vector* Interrupts::At(uint32_t index, uint32_t sub_index) {
  return index == VFIO_PCI_INTX_IRQ_INDEX ? &intx_ : &vectors_[sub_index];
}

int Interrupts::Set(const IrqSet& set, std::span<const std::byte> data,
                    std::span<virtio::ReceivedFd> fds) {
  const uint32_t data_type = set.flags & kDataFlags;
  const uint32_t action = set.flags & kActionFlags;
  if ((set.flags & ~(kDataFlags | kActionFlags)) != 0) return EINVAL;
  if (!std::has_single_bit(data_type) || !std::has_single_bit(action)) return EINVAL;
  const uint32_t limit = Describe(set.index).count;
  if (set.start > limit || set.count > limit - set.start) return EINVAL;
  if (data_type == VFIO_IRQ_SET_DATA_EVENTFD) {
    return action == VFIO_IRQ_SET_ACTION_TRIGGER ? Assign(set, fds) : EINVAL;
  }
  if (data_type == VFIO_IRQ_SET_DATA_BOOL) {
    if (data.size() != set.count) return EINVAL;
    for (uint32_t i = 0; i < set.count; ++i) {
      if (data[i] != std::byte{0}) ApplyAction(set.index, set.start + i, action);
    }
    return 0;
  }
  if (set.count == 0 && set.start == 0 && action == VFIO_IRQ_SET_ACTION_TRIGGER) {
    IrqSet everything = set;
    everything.count = limit;
    return Assign(everything, {});
  }
  for (uint32_t i = 0; i < set.count; ++i) ApplyAction(set.index, set.start + i, action);
  return 0;
}

// Without descriptors, removes the eventfds of these interrupts.
int Interrupts::Assign(const IrqSet& set, std::span<virtio::ReceivedFd> fds) {
  if (!fds.empty() && fds.size() != set.count) return EINVAL;
  if (!std::ranges::all_of(fds, virtio::PrepareEventFd, &virtio::ReceivedFd::get)) return EINVAL;
  if (!MayKeep(set, fds)) return ENOSPC;
  for (uint32_t i = 0; i < set.count; ++i) {
    Vector& vector = *At(set.index, set.start + i);
    vector.eventfd = fds.empty() ? base::UniqueFd() : fds[i].Take();
    vector.masked = vector.pending = false;
  }
  vectors_in_use_ =
      std::ranges::any_of(vectors_, [](const Vector& vector) { return vector.eventfd.valid(); });
  UpdateIntx();
  return 0;
}

// Descriptors that take the place of others do not count.
bool Interrupts::MayKeep(const IrqSet& set, std::span<const virtio::ReceivedFd> fds) {
  auto count = static_cast<size_t>(
      std::ranges::count_if(vectors_, [](const Vector& vector) { return vector.eventfd.valid(); }));
  if (intx_.eventfd) ++count;
  for (size_t i = 0; i < fds.size(); ++i) {
    if (At(set.index, set.start + static_cast<uint32_t>(i))->eventfd) continue;
    if (!virtio::MayKeepDescriptor(fds[i].get(), count++)) return false;
  }
  return true;
}

void Interrupts::ApplyAction(uint32_t index, uint32_t sub_index, uint32_t action) {
  Vector& vector = *At(index, sub_index);
  switch (action) {
    case VFIO_IRQ_SET_ACTION_MASK:
      vector.masked = true;
      return;
    case VFIO_IRQ_SET_ACTION_UNMASK:
      vector.masked = false;
      if (index == VFIO_PCI_INTX_IRQ_INDEX) return UpdateIntx();
      if (vector.pending) Deliver(vector);
      return;
    default:
      if (vector.eventfd) Signal(vector.eventfd);
  }
}

void Interrupts::Clear() {
  for (Vector& vector : vectors_) vector = Vector();
  intx_ = Vector();
  vectors_in_use_ = all_masked_ = intx_level_ = intx_disabled_ = false;
}

void Interrupts::Deliver(Vector& vector) {
  vector.pending = vector.masked || all_masked_;
  if (!vector.pending && vector.eventfd) Signal(vector.eventfd);
}

void Interrupts::Signal(base::UniqueFd& eventfd) {
  if (!notifier_.Notify(eventfd)) eventfd.Reset();
}

void Interrupts::Raise(uint32_t vector) { Deliver(vectors_[vector]); }

void Interrupts::MaskAll(bool masked) {
  if (std::exchange(all_masked_, masked) == masked || masked) return;
  for (Vector& vector : vectors_) {
    if (vector.pending) Deliver(vector);
  }
}

void Interrupts::SetIntx(bool level) {
  intx_level_ = level;
  UpdateIntx();
}

void Interrupts::DisableIntx(bool disabled) {
  intx_disabled_ = disabled;
  UpdateIntx();
}

// As specified for VFIO_IRQ_INFO_AUTOMASKED, each interrupt masks the line until the client unmasks
// it.
void Interrupts::UpdateIntx() {
  if (!intx_level_ || intx_disabled_ || intx_.masked || !intx_.eventfd || vectors_in_use_) return;
  intx_.masked = true;
  Signal(intx_.eventfd);
}

}  // namespace sma::storage_target::vfio_user
