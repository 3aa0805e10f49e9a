// SPDX-License-Identifier: Apache-2.0

#include <cstring>
#include <random>

#include "absl/strings/str_format.h"
#include "sma_nvme/commands.h"
#include "sma_nvme/io_loop.h"

namespace sma::sma_nvme {

using storage_target::initiator::NamespaceInfo;
using storage_target::initiator::QueuePair;
using storage_target::nvme::IoOpcode;

namespace {

// Returns word `index` of the pattern, counted from the start of the namespace (the mixing function
// of SplitMix64).
uint64_t PatternWord(uint64_t seed, uint64_t index) {
  uint64_t word = seed + index * 0x9e3779b97f4a7c15;
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
  word = (word ^ word >> 27) * 0x94d049bb133111eb;
  return word ^ word >> 31;
}

// Iterates over a range of a namespace.
class Verifier {
 public:
  Verifier(IoLoop& loop, const NamespaceInfo& info, uint64_t first_lba, uint64_t end_lba)
      : loop_(loop),
        block_size_(info.block_size),
        first_lba_(first_lba),
        end_lba_(end_lba),
        seed_(std::random_device()() | uint64_t{std::random_device()()} << 32) {}

  absl::Status Write() {
    next_lba_ = first_lba_;
    return loop_.Run(
        [this](IoLoop::Slot& slot) {
          if (!Advance(slot, IoOpcode::kWrite)) return false;
          ForEachWord(slot, [this](uint64_t index, std::byte* at) {
            uint64_t word = PatternWord(seed_, index);
            std::memcpy(at, &word, sizeof word);
            return true;
          });
          return true;
        },
        [](IoLoop::Slot&) { return absl::OkStatus(); });
  }

  absl::Status ReadAndCompare() {
    next_lba_ = first_lba_;
    return loop_.Run([this](IoLoop::Slot& slot) { return Advance(slot, IoOpcode::kRead); },
                     [this](IoLoop::Slot& slot) { return Compare(slot); });
  }

 private:
  bool Advance(IoLoop::Slot& slot, IoOpcode opcode) {
    if (next_lba_ + loop_.blocks_per_io() > end_lba_) return false;
    loop_.Prepare(slot, opcode, next_lba_);
    next_lba_ += loop_.blocks_per_io();
    return true;
  }

  // Calls `visit` with the index and address of each word until it returns false.
  template <typename Visit>
  void ForEachWord(const IoLoop::Slot& slot, Visit visit) const {
    uint64_t index = slot.lba * block_size_ / sizeof(uint64_t);
    for (size_t at = 0; at < slot.buffer.size(); at += sizeof(uint64_t)) {
      if (!visit(index++, slot.buffer.data() + at)) return;
    }
  }

  absl::Status Compare(const IoLoop::Slot& slot) const {
    absl::Status status;
    ForEachWord(slot, [&](uint64_t index, const std::byte* at) {
      uint64_t word = PatternWord(seed_, index);
      if (std::memcmp(at, &word, sizeof word) == 0) return true;
      status = absl::DataLossError(absl::StrFormat("byte %u differs from the data written (LBA %u)",
                                                   index * sizeof(uint64_t),
                                                   index * sizeof(uint64_t) / block_size_));
      return false;
    });
    return status;
  }

  IoLoop& loop_;
  const uint32_t block_size_;
  const uint64_t first_lba_;
  const uint64_t end_lba_;
  const uint64_t seed_;
  uint64_t next_lba_ = 0;
};

struct Range {
  uint64_t first_lba;
  uint64_t end_lba;
  uint32_t io_bytes;
};

absl::StatusOr<Range> ChooseRange(const VerifyOptions& options, const NamespaceInfo& info,
                                  uint64_t max_transfer_bytes) {
  const uint64_t namespace_bytes = info.block_count * info.block_size;
  if (options.offset_bytes >= namespace_bytes || options.offset_bytes % info.block_size != 0) {
    return absl::InvalidArgumentError(
        "--offset must be a multiple of the block size, within the namespace");
  }
  uint64_t size = namespace_bytes - options.offset_bytes;
  if (options.size_bytes != 0) size = std::min(size, options.size_bytes);
  uint64_t io_bytes = std::min({uint64_t{options.io_bytes}, size, max_transfer_bytes});
  io_bytes -= io_bytes % info.block_size;
  if (io_bytes == 0) return absl::InvalidArgumentError("--io-size is less than a block");
  const uint64_t first_lba = options.offset_bytes / info.block_size;
  const uint64_t blocks = size / io_bytes * (io_bytes / info.block_size);
  return Range{first_lba, first_lba + blocks, static_cast<uint32_t>(io_bytes)};
}

void PrintPass(const char* what, const IoLoop& loop, uint64_t bytes, uint64_t ns) {
  const double seconds = static_cast<double>(ns) / 1e9;
  const double mib = static_cast<double>(bytes) / (1 << 20);
  absl::PrintF("%s %.1f MiB in %.3f s: %.0f MiB/s, latency %.0f us (mean), %.0f us (99th)\n", what,
               mib, seconds, mib / seconds, loop.latencies().mean_ns() / 1e3,
               static_cast<double>(loop.latencies().PercentileNs(99)) / 1e3);
}

}  // namespace

absl::Status Verify(const RemoteOptions& remote, const VerifyOptions& options) {
  absl::StatusOr<std::unique_ptr<Session>> session = Session::Open(remote, 1);
  if (!session.ok()) return session.status();
  absl::StatusOr<std::vector<NamespaceInfo>> namespaces = (*session)->ListNamespaces();
  if (!namespaces.ok()) return namespaces.status();
  absl::StatusOr<NamespaceInfo> info = ChooseNamespace(*namespaces, options.namespace_name);
  if (!info.ok()) return info.status();
  absl::StatusOr<Range> range =
      ChooseRange(options, *info, (*session)->controller().info().max_transfer_bytes);
  if (!range.ok()) return range.status();
  absl::PrintF("namespace %u: %s, %u blocks of %u bytes\n", info->nsid, info->uuid.ToString(),
               info->block_count, info->block_size);

  absl::StatusOr<std::unique_ptr<QueuePair>> queue =
      (*session)->OpenQueue(1, static_cast<uint16_t>(options.depth + 1));
  if (!queue.ok()) return queue.status();
  std::vector<std::unique_ptr<QueuePair>> queues;
  queues.push_back(std::move(*queue));
  IoLoop loop(**session, *info,
              {.io_bytes = range->io_bytes, .depth = options.depth, .spin = false},
              std::move(queues));
  Verifier verifier(loop, *info, range->first_lba, range->end_lba);
  const uint64_t bytes = (range->end_lba - range->first_lba) * info->block_size;

  uint64_t start_ns = NowNs();
  if (absl::Status status = verifier.Write(); !status.ok()) return status;
  PrintPass("wrote", loop, bytes, NowNs() - start_ns);
  loop.ClearLatencies();
  start_ns = NowNs();
  if (absl::Status status = verifier.ReadAndCompare(); !status.ok()) return status;
  PrintPass("read ", loop, bytes, NowNs() - start_ns);
  absl::PrintF("every byte is as it was written\n");
  return absl::OkStatus();
}

}  // namespace sma::sma_nvme
