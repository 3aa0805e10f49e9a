// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/malloc/malloc_bdev.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/io_queue.h"
#include "storage_target/bdev/medium_copy.h"
#include "storage_target/bdev/turn.h"
#include "storage_target/bdev_modules/malloc/background_populate.h"
#include "storage_target/bdev_modules/malloc/data_cursor.h"
#include "storage_target/bdev_modules/malloc/disk_sharing.h"
#include "storage_target/bdev_modules/malloc/sparse_memory.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_malloc {
namespace {

using bdev::Bdev;
using bdev::Channel;
using bdev::Io;
using bdev::IoStatus;
using bdev::IoType;

constexpr size_t kCacheLineBytes = 64;
// Larger reads rely on the CPU's own prefetching.
constexpr size_t kMaxPrefetchBytes = 8192;
// A larger read or write is copied in turns (bdev::Turn).
constexpr size_t kMaxCopyBytes = 1 << 20;
// Zeroing discards pages, which takes about an eighth of the time of a copy. A larger range is
// zeroed in parts, one in each turn.
constexpr size_t kMaxZeroBytes = 8 << 20;

// Prefetches the blocks of a read while the following commands are parsed, so that the later copy
// into the socket does not wait for each cache line.
void Prefetch(const std::byte* memory, size_t size) {
  for (size_t at = 0; at < size; at += kCacheLineBytes) __builtin_prefetch(memory + at, 0, 2);
}

class MallocChannel : public Channel {
 public:
  MallocChannel(Bdev& bdev, Reactor& reactor, const SparseMemory& memory,
                std::shared_ptr<DiskSharing> sharing)
      : Channel(bdev, reactor), memory_(memory), sharing_(std::move(sharing)), turn_(reactor) {
    sharing_->AddChannel(reactor);
    next_part_.channel = this;
    next_part_.run = [](Deferred& self) { static_cast<NextPart&>(self).channel->DoNextPart(); };
  }
  ~MallocChannel() override { sharing_->RemoveChannel(reactor()); }

 private:
  struct NextPart : Deferred {
    MallocChannel* channel;
  };

  struct Waiter : DiskSharing::Waiter {
    explicit Waiter(MallocChannel& its_channel) : channel(its_channel) {}
    void OnShared() override { channel.SubmitWaiting(); }
    MallocChannel& channel;
  };

  uint64_t OffsetOf(uint64_t lba) const { return lba * bdev().block_size(); }
  uint64_t SizeOf(const Io& io) const { return io.block_count * bdev().block_size(); }
  std::byte* At(uint64_t lba) const { return memory_.data() + OffsetOf(lba); }

  void DoSubmit(Io& io) override {
    if (!sharing_->IsOwner(reactor())) [[unlikely]] {
      if (!MayStart(io)) return;
      if (!sharing_->IsOwner(reactor()) && !IsLargeCopy(io)) return RunLocked(io);
    }
    if (IsLargeCopy(io)) [[unlikely]]
      return BeginLarge(io);
    DataCursor data(io);
    IoStatus status = IoStatus::kOk;
    switch (io.type) {
      case IoType::kRead:
        data.CopyFrom(At(io.lba), SizeOf(io));
        break;
      case IoType::kWrite:
        data.CopyTo(At(io.lba), SizeOf(io));
        bdev::OrderMediumCopies();
        break;
      case IoType::kCompare:
        if (!data.Equals(At(io.lba), SizeOf(io))) status = IoStatus::kMiscompare;
        break;
      case IoType::kUnmap:
      case IoType::kWriteZeroes:
        return Zero(io);
      case IoType::kFlush:
        break;
    }
    Complete(io, status);
  }

  // Compares are not split, because hosts cannot send large ones.
  bool IsLargeCopy(const Io& io) const {
    return SizeOf(io) > kMaxCopyBytes && (io.type == IoType::kRead || io.type == IoType::kWrite);
  }

  void BeginLarge(Io& io) {
    large_.Append(io);
    reactor().Defer(next_part_);
  }

  // Returns false if `io` must wait until the owner releases the disk.
  bool MayStart(Io& io) {
    if (waiting_.empty()) {
      if (!waiter_) waiter_ = std::make_shared<Waiter>(*this);
      if (sharing_->Request(reactor(), waiter_) != DiskSharing::Access::kWait) return true;
    }
    waiting_.Append(io);
    return false;
  }

  // The completion of the last I/O may destroy the channel.
  void SubmitWaiting() {
    bdev::IoQueue ready;
    while (!waiting_.empty()) ready.Append(waiting_.TakeFirst());
    while (!ready.empty()) DoSubmit(ready.TakeFirst());
  }

  // Executes `io` with the locks that are needed while other reactors may access the same blocks.
  void RunLocked(Io& io) {
    DataCursor data(io);
    bool equal = true;
    std::byte* const memory = memory_.data();
    switch (io.type) {
      case IoType::kRead:
        sharing_->VisitLocked(OffsetOf(io.lba), SizeOf(io), [&](uint64_t offset, uint64_t size) {
          data.CopyFrom(memory + offset, size);
          return true;
        });
        break;
      case IoType::kWrite:
        sharing_->VisitLocked(OffsetOf(io.lba), SizeOf(io), [&](uint64_t offset, uint64_t size) {
          data.CopyTo(memory + offset, size);
          bdev::OrderMediumCopies();
          return true;
        });
        break;
      case IoType::kCompare:
        sharing_->VisitLocked(OffsetOf(io.lba), SizeOf(io), [&](uint64_t offset, uint64_t size) {
          return equal = data.Equals(memory + offset, size);
        });
        break;
      case IoType::kUnmap:
      case IoType::kWriteZeroes:
        return Zero(io);
      case IoType::kFlush:
        break;
    }
    Complete(io, equal ? IoStatus::kOk : IoStatus::kMiscompare);
  }

  // The first I/O of large_ is completed by DoNextPart, which is already scheduled and needs the
  // channel.
  bool DoAbort(Io& io) override {
    if (&io == large_.first()) {
      first_aborted_ = true;
      return false;
    }
    bdev::IoQueue::Remove(io);
    Complete(io, IoStatus::kAborted);
    return true;
  }

  std::byte* DoAccessInPlace(IoType type, uint64_t lba, uint64_t block_count) override {
    if (!sharing_->IsOwner(reactor())) [[unlikely]] {
      return BecomeOwner(type, lba, block_count);
    }
    std::byte* memory = At(lba);
    if (type == IoType::kRead) {
      Prefetch(memory, std::min<size_t>(block_count * bdev().block_size(), kMaxPrefetchBytes));
    }
    return memory;
  }

  // Not inlined, so that the owner's path does not have to save registers for it.
  [[gnu::noinline]] std::byte* BecomeOwner(IoType type, uint64_t lba, uint64_t block_count) {
    if (sharing_->TryAccess(reactor()) != DiskSharing::Access::kOwner) return nullptr;
    return DoAccessInPlace(type, lba, block_count);
  }

  bool DoIsInPlace() const override { return sharing_->IsOwner(reactor()); }

  void DoCopyOut(const std::byte* from, std::byte* to, size_t size_bytes) override {
    const auto begin = static_cast<uint64_t>(from - memory_.data());
    sharing_->VisitLocked(begin, size_bytes, [&](uint64_t offset, uint64_t size) {
      std::memcpy(to + (offset - begin), memory_.data() + offset, size);
      return true;
    });
  }

  void Zero(Io& io) {
    if (SizeOf(io) > kMaxZeroBytes || !large_.empty() || turn_.is_over()) return BeginLarge(io);
    ZeroBytes(OffsetOf(io.lba), SizeOf(io));
    turn_.Use(SizeOf(io));
    Complete(io, IoStatus::kOk);
  }

  // Zeroes a range, which consists of whole blocks.
  void ZeroBytes(uint64_t offset, uint64_t size) {
    if (sharing_->IsOwner(reactor())) return memory_.Zero(offset, size);
    if (size < SparseMemory::kMinDiscardBytes) {
      return sharing_->VisitLocked(offset, size, [&](uint64_t part, uint64_t part_size) {
        memory_.Zero(part, part_size);
        return true;
      });
    }
    // A discarded page may contain a part of another block, so no block may be copied at the same
    // time.
    const uint64_t step = sharing_->cycle_bytes();
    for (const uint64_t end = offset + size; offset < end;) {
      const uint64_t part_end = std::min(end, (offset / step + 1) * step);
      sharing_->WithAllLocked([&] { memory_.Zero(offset, part_end - offset); });
      offset = part_end;
    }
  }

  // Copies the next blocks of a read or write; copies only whole blocks.
  void CopyBytes(const Io& io, uint64_t offset, uint64_t size) {
    auto copy = [&, memory = memory_.data()](uint64_t at, uint64_t part_size) {
      if (io.type == IoType::kRead) {
        large_data_->CopyFrom(memory + at, part_size);
      } else {
        large_data_->CopyTo(memory + at, part_size);
        bdev::OrderMediumCopies();
      }
      return true;
    };
    if (sharing_->IsOwner(reactor())) {
      copy(offset, size);
    } else {
      sharing_->VisitLocked(offset, size, copy);
    }
  }

  // Returns the size of the next part of a large I/O, in whole blocks.
  uint64_t NextPartBytes(bool copies, uint64_t left_bytes) {
    const uint64_t block_size = bdev().block_size();
    const uint64_t max_bytes = copies ? turn_.left_bytes() : kMaxZeroBytes;
    return std::min(left_bytes, (max_bytes + block_size - 1) / block_size * block_size);
  }

  void DoNextPart() {
    Io& io = *large_.first();
    if (turn_.is_over() && !first_aborted_) return reactor().Defer(next_part_);
    const bool copies = io.type == IoType::kRead || io.type == IoType::kWrite;
    if (copies && large_bytes_ == 0) large_data_.emplace(io);
    const uint64_t left = SizeOf(io) - large_bytes_;
    const uint64_t part = NextPartBytes(copies, left);
    const uint64_t offset = OffsetOf(io.lba) + large_bytes_;
    const bool aborted = std::exchange(first_aborted_, false);
    if (!aborted) {
      copies ? CopyBytes(io, offset, part) : ZeroBytes(offset, part);
      turn_.Use(part);
    }
    large_bytes_ += part;
    const bool ends = aborted || part == left;
    if (ends) {
      large_bytes_ = 0;
      bdev::IoQueue::Remove(io);
    }
    if (!large_.empty()) reactor().Defer(next_part_);
    if (ends) Complete(io, aborted ? IoStatus::kAborted : IoStatus::kOk);
  }

  const SparseMemory& memory_;
  const std::shared_ptr<DiskSharing> sharing_;
  std::shared_ptr<Waiter> waiter_;
  bdev::IoQueue waiting_;  // I/Os that wait for the owner of the disk
  bdev::IoQueue large_;    // executed in parts, one I/O after the other
  bdev::Turn turn_;
  bool first_aborted_ = false;
  uint64_t large_bytes_ = 0;              // completed bytes of the first I/O in large_
  std::optional<DataCursor> large_data_;  // remaining data of that I/O, unless it writes zeroes
  NextPart next_part_;
};

class MallocBdev : public Bdev {
 public:
  MallocBdev(Info info, SparseMemory memory)
      : Bdev(std::move(info)),
        memory_(std::move(memory)),
        sharing_(std::make_shared<DiskSharing>(block_size())),
        populate_(memory_.data(), memory_.size()) {}

  std::string_view module() const override { return kMallocModule; }
  bool Supports(IoType /*type*/) const override { return true; }

  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const override {
    calls.push_back({"bdev_malloc_create",
                     {{"name", name()},
                      {"num_blocks", block_count()},
                      {"block_size", block_size()},
                      {"uuid", info().uuid.ToString()}}});
  }

 protected:
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<MallocChannel>(*this, reactor, memory_, sharing_);
  }

 private:
  const SparseMemory memory_;
  const std::shared_ptr<DiskSharing> sharing_;
  const BackgroundPopulate populate_;
};

// Like SPDK, increments the number even if the name is already used.
std::string NextName() {
  static int count = 0;
  return "Malloc" + std::to_string(count++);
}

}  // namespace

base::ErrnoOr<std::unique_ptr<Bdev>> MakeMallocBdev(Bdev::Info info) {
  using Result = base::ErrnoOr<std::unique_ptr<Bdev>>;
  if (info.block_size == 0 || info.block_count == 0) return Result::Error(EINVAL);
  if (info.block_count > SIZE_MAX / info.block_size) return Result::Error(ENOMEM);
  SparseMemory memory(info.block_count * info.block_size);
  if (memory.data() == nullptr) return Result::Error(ENOMEM);
  if (info.name.empty()) info.name = NextName();
  info.product_name = "Malloc disk";
  info.native_fua = true;
  info.unmap_reads_zero = true;
  info.numa_id = -1;
  info.extra_io_types = {"abort", "zcopy", "copy"};
  return Result(std::make_unique<MallocBdev>(std::move(info), std::move(memory)));
}

}  // namespace sma::storage_target::bdev_malloc
