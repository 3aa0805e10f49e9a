#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "agent/record/store.h"

namespace sma::record {

/// What a MemoryStore keeps; outlives it, as a disk outlives a program.
struct MemoryDisk {
  std::map<std::string, Device> devices;
  std::map<base::Uuid, Volume> volumes;
  std::map<base::Uuid, VolumeLimits> limits;
  uint64_t commits = 0;
  /// Asked before each commit; one that is not OK is its result, and nothing is written.
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
