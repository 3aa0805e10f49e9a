// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/packed_driver.h"
#include "harness/vhost_user/split_driver.h"

namespace sma::harness {

/// A virtio-blk driver on one virtqueue: sends requests and waits for their answers. Memory for
/// requests is allocated from the GuestRam and never freed.
class BlkDriver {
 public:
  BlkDriver(GuestRam& ram, const RingOptions& options);

  /// `base` is the value for SET_VRING_BASE; nullopt for that of a new driver.
  bool Start(FrontEnd& front_end, uint16_t index, std::optional<uint32_t> base = {});

  struct Request {
    uint32_t type = 0;  // VIRTIO_BLK_T_*
    uint64_t sector = 0;
    std::span<const std::byte> out = {};  // read by the device
    size_t in_bytes = 0;                  // size of the data that the device writes
    size_t segment_bytes = 4096;          // data are described in segments of this size
  };
  /// Makes a request visible to the device and notifies the device if it has requested that.
  /// Returns the request's head; nullopt if the ring is full.
  std::optional<uint16_t> Submit(const Request& request);
  /// Like Submit, without a notification.
  std::optional<uint16_t> SubmitQuietly(const Request& request);

  struct Answer {
    uint8_t status = 0xff;
    uint32_t written_bytes = 0;
    std::vector<std::byte> in;
  };
  /// Waits for the answer to `head`; returns nullopt after FrontEnd::kTimeout.
  std::optional<Answer> Wait(uint16_t head);
  std::optional<Answer> Do(const Request& request);

  // Return the status; 0xff if there was no answer.
  uint8_t Read(uint64_t sector, std::span<std::byte> data);
  uint8_t Write(uint64_t sector, std::span<const std::byte> data);
  uint8_t Flush();
  uint8_t Zero(uint32_t type, uint64_t sector, uint32_t sector_count, uint32_t flags = 0);

  void Kick();
  RingDriver& ring() { return *ring_; }
  // Return the ring driver, which must have that layout.
  SplitDriver& split() { return dynamic_cast<SplitDriver&>(*ring_); }
  PackedDriver& packed() { return dynamic_cast<PackedDriver&>(*ring_); }
  int kick_fd() const { return kick_.get(); }
  int call_fd() const { return call_.get(); }

 private:
  struct Sent {
    GuestBuffer status;
    GuestBuffer in;
  };

  bool WaitForCall();

  GuestRam& ram_;
  std::unique_ptr<RingDriver> ring_;
  base::UniqueFd kick_;
  base::UniqueFd call_;
  std::map<uint16_t, Sent> sent_;
  std::map<uint16_t, Answer> answers_;
};

}  // namespace sma::harness
