// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/channel.h"
#include "storage_target/bdev_modules/nvme/bdev_io.h"
#include "storage_target/bdev_modules/nvme/subsystem_queues.h"

namespace sma::storage_target::bdev_nvme {

inline constexpr char kNvmeModule[] = "nvme";

/// The channel of a remote namespace in one reactor.
class NvmeChannel : public bdev::Channel {
 public:
  NvmeChannel(bdev::Bdev& bdev, Reactor& reactor, uint32_t nsid, const DiskKey& disk,
              std::shared_ptr<SubsystemQueues> queues);
  ~NvmeChannel() override;

  /// Completes `io`.
  void Finish(NvmeIo& io, bdev::IoStatus status);
  /// Returns true while a reset is running, during which failed commands are not retried.
  bool resetting() const { return resetting_; }
  SubsystemQueues& queues() const { return *queues_; }
  const DiskKey& disk() const { return disk_; }

 private:
  void DoSubmit(bdev::Io& io) override;
  bool DoAbort(bdev::Io& io) override;
  void DoReset() override;

  const uint32_t nsid_;
  const DiskKey disk_;
  const std::shared_ptr<SubsystemQueues> queues_;
  uint32_t under_way_ = 0;
  bool resetting_ = false;
};

/// A namespace of a remote subsystem.
class NvmeBdev : public bdev::Bdev {
 public:
  struct Options {
    uint32_t nsid = 0;
    DiskKey disk;
    bool compare = false;  // supported by the controller
    bool unmap = false;
    bool write_zeroes = false;
    std::vector<std::shared_ptr<SubsystemQueues>> queues;  // one per reactor
    std::function<bdev::Object()> driver_specific;
  };

  NvmeBdev(Info info, Options options);

  std::string_view module() const override { return kNvmeModule; }
  bool Supports(bdev::IoType type) const override;
  bdev::Object DriverSpecific() const override { return options_.driver_specific(); }

 protected:
  std::unique_ptr<bdev::Channel> MakeChannel(Reactor& reactor) override;

 private:
  const Options options_;
};

}  // namespace sma::storage_target::bdev_nvme
