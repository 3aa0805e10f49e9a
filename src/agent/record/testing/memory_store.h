// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "agent/record/store.h"

namespace sma::record {

/// The contents of a MemoryStore; outlives it, as a disk outlives a process.
struct MemoryDisk {
  std::map<std::string, Device> devices;
  std::map<base::Uuid, Volume> volumes;
  std::map<base::Uuid, VolumeLimits> limits;
  uint64_t commits = 0;
  /// Called before each commit. If it returns an error, the commit fails with that error and writes
  /// nothing.
  std::function<absl::Status(Durability)> fault;
};

/// A store in memory, for tests.
class MemoryStore : public Store {
 public:
  explicit MemoryStore(std::shared_ptr<MemoryDisk> disk) : disk_(std::move(disk)) {}

  absl::StatusOr<Contents> Load() override;
  absl::Status Commit(std::span<const Change* const> changes, Durability durability) override;

 private:
  const std::shared_ptr<MemoryDisk> disk_;
};

}  // namespace sma::record
