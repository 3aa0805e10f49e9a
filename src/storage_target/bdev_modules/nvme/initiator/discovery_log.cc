// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/discovery_log.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "storage_target/nvme/nqn.h"

namespace sma::storage_target::initiator {
namespace {

// IANA's port numbers for nvme and nvme-disc.
constexpr char kIoPort[] = "4420";
constexpr char kDiscoveryPort[] = "8009";

constexpr uint64_t kMaxRecords = 16384;  // larger counts are considered invalid
constexpr uint64_t kRecordsPerRead = 64;
constexpr int kMaxAttempts = 8;  // for a log that changes while it is read

}  // namespace

std::optional<DiscoveryEntry> ParseDiscoveryEntry(const nvme::DiscoveryLogEntry& entry) {
  if (entry.transport != nvme::TransportType::kTcp) return std::nullopt;
  bool is_subsystem = entry.subtype == nvme::DiscoverySubtype::kNvm;
  bool is_discovery = entry.subtype == nvme::DiscoverySubtype::kReferral ||
                      entry.subtype == nvme::DiscoverySubtype::kCurrentDiscovery;
  if (!is_subsystem && !is_discovery) return std::nullopt;

  std::string_view subnqn = nvme::NulTerminated(entry.subsystem_nqn);
  if (subnqn.empty() && is_discovery) subnqn = nvme::kDiscoveryNqn;
  std::string_view port = nvme::Unpadded(entry.service_id);
  if (port.empty()) port = is_subsystem ? kIoPort : kDiscoveryPort;
  std::optional<Address> address = Address::Parse(nvme::Unpadded(entry.transport_address), port);
  if (!address || address->port == 0 || !nvme::IsValidNqn(subnqn)) return std::nullopt;
  return DiscoveryEntry{entry.subtype, *address, std::string(subnqn)};
}

DiscoveryLogReader::DiscoveryLogReader(Controller& controller, Done done)
    : controller_(controller), done_(std::move(done)) {
  Begin();
}

void DiscoveryLogReader::Read(uint64_t offset_bytes, uint64_t size_bytes, bool retain_event,
                              void (DiscoveryLogReader::*next)(const Controller::Result&)) {
  nvme::GetLogPage page{nvme::LogPage::kDiscovery, retain_event, size_bytes, offset_bytes, false};
  std::weak_ptr<DiscoveryLogReader*> self = self_;
  controller_.GetLogPage(page, [self, next](const Controller::Result& result) {
    auto alive = self.lock();
    if (!alive) return;
    DiscoveryLogReader& reader = **alive;
    if (!result.ok()) return reader.Finish(std::nullopt);
    (reader.*next)(result);
  });
}

void DiscoveryLogReader::Begin() {
  ++attempts_;
  records_read_ = 0;
  entries_.clear();
  Read(0, sizeof header_, /*retain_event=*/true, &DiscoveryLogReader::OnHeader);
}

void DiscoveryLogReader::OnHeader(const Controller::Result& result) {
  std::memcpy(&header_, result.data.data(), sizeof header_);
  if (header_.record_format != 0 || header_.record_count > kMaxRecords) {
    return Finish(std::nullopt);
  }
  ReadEntries();
}

void DiscoveryLogReader::ReadEntries() {
  if (records_read_ == header_.record_count) {
    // Reading without RAE enables the next change event (NVMe Base 2.0 §5.16.1).
    return Read(0, sizeof header_, /*retain_event=*/false, &DiscoveryLogReader::OnHeaderAgain);
  }
  constexpr uint64_t kRecord = sizeof(nvme::DiscoveryLogEntry);
  uint64_t fitting = std::max<uint64_t>(controller_.info().max_transfer_bytes / kRecord, 1);
  records_asked_ = std::min({header_.record_count - records_read_, kRecordsPerRead, fitting});
  Read(sizeof header_ + records_read_ * kRecord, records_asked_ * kRecord, /*retain_event=*/true,
       &DiscoveryLogReader::OnEntries);
}

void DiscoveryLogReader::OnEntries(const Controller::Result& result) {
  for (uint64_t i = 0; i < records_asked_; ++i) {
    nvme::DiscoveryLogEntry record;
    std::memcpy(&record, result.data.data() + i * sizeof record, sizeof record);
    if (auto entry = ParseDiscoveryEntry(record)) entries_.push_back(std::move(*entry));
  }
  records_read_ += records_asked_;
  ReadEntries();
}

void DiscoveryLogReader::OnHeaderAgain(const Controller::Result& result) {
  nvme::DiscoveryLogHeader header;
  std::memcpy(&header, result.data.data(), sizeof header);
  if (header.generation == header_.generation && header.record_count == header_.record_count) {
    return Finish(std::move(entries_));
  }
  if (attempts_ == kMaxAttempts) return Finish(std::nullopt);
  Begin();
}

// `done` may destroy this reader.
void DiscoveryLogReader::Finish(std::optional<std::vector<DiscoveryEntry>> entries) {
  auto done = std::move(done_);
  done(std::move(entries));
}

}  // namespace sma::storage_target::initiator
