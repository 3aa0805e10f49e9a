#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "target/vfio_user/dma_map.h"
#include "target/vfio_user/dma_messages.h"
#include "target/vfio_user/interrupts.h"

namespace sma::target::vfio_user {

/// The regions of a PCI function, as <linux/vfio.h> numbers them.
inline constexpr uint32_t kRegionCount = 9;
inline constexpr uint32_t kBar0 = 0;
inline constexpr uint32_t kBar4 = 4;
inline constexpr uint32_t kConfigRegion = 7;

/// A region of a device; one of no bytes is not there.
struct Region {
  uint64_t size_bytes = 0;
  /// The part that the client may map, from the descriptor `fd` (the device's) at the same offset;
  /// fd -1: none.
  int fd = -1;
  uint64_t mappable_offset_bytes = 0;
  uint64_t mappable_bytes = 0;
};

/// A PCI function that a session shows to its client. All in one reactor's thread.
class Device {
 public:
  virtual ~Device() = default;

  virtual const std::string& name() const = 0;
  /// `index` is less than kRegionCount.
  virtual Region DescribeRegion(uint32_t index) const = 0;
  /// The range has been checked to lie in the region. False: no such access is possible there.
  virtual bool ReadRegion(uint32_t index, uint64_t offset, std::span<std::byte> out) = 0;
  virtual bool WriteRegion(uint32_t index, uint64_t offset, std::span<const std::byte> data) = 0;

  virtual Interrupts& interrupts() = 0;
  /// The client's memory. The session changes it, between Pause and Resume when a region goes.
  virtual DmaMap& memory() = 0;
  /// The way to memory that the client does not share, as long as there is a client; else nullptr.
  /// A transfer may wait for the client through a Pause, which does not wait for it.
  virtual void SetMessages(DmaMessages* messages) = 0;
  /// Begins nothing new; `done` (perhaps in here) when nothing that is under way touches the
  /// client's memory but by messages.
  virtual void Pause(std::function<void()> done) = 0;
  /// Goes on; the memory may have changed. Also after a region came, without Pause.
  virtual void Resume() = 0;
  /// Becomes as it was at first, its configuration space too; `done` (perhaps in here) when nothing
  /// of before is under way. Again while one is going on: `done` runs after the first.
  virtual void Reset(std::function<void()> done) = 0;
};

}  // namespace sma::target::vfio_user
