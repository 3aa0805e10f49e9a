#include "target/bdev_modules/malloc/malloc_bdev.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "target/bdev/channel.h"
#include "target/bdev/io_queue.h"
#include "target/bdev/medium_copy.h"
#include "target/bdev_modules/malloc/background_populate.h"
#include "target/bdev_modules/malloc/disk_sharing.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_modules {
namespace {

using bdev::Bdev;
using bdev::Channel;
using bdev::Io;
using bdev::IoStatus;
using bdev::IoType;

constexpr size_t kPageBytes = 4096;
constexpr size_t kCacheLineBytes = 64;
// Of larger reads the processor itself sees how they go on.
constexpr size_t kMaxPrefetchBytes = 8192;
constexpr size_t kHugePageBytes = 2 << 20;
// Zeroing less than this is done by writing zeroes, more by giving pages back.
constexpr size_t kMinDiscardBytes = 64 * 1024;
// How much is zeroed in one round of the loop, so that other I/O is not held up.
constexpr size_t kZeroBytesPerRound = 64 << 20;

/// Memory of the process that reads as zeroes until written; nothing is held for pages that were
/// neither populated nor accessed.
class SparseMemory {
 public:
  explicit SparseMemory(size_t size) : size_(size) {
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return;
    data_ = static_cast<std::byte*>(memory);
    if (size >= kHugePageBytes) ::madvise(data_, size, MADV_HUGEPAGE);
    ::madvise(data_, size, MADV_DONTDUMP);
  }
  ~SparseMemory() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }
  SparseMemory(SparseMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  SparseMemory& operator=(SparseMemory&&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

  void Zero(size_t offset, size_t size) const {
    std::byte* begin = data_ + offset;
    std::byte* end = begin + size;
    std::byte* first_page = AlignUp(begin);
    std::byte* pages_end = AlignUp(end - kPageBytes + 1);
    if (size < kMinDiscardBytes || !Discard(first_page, pages_end)) {
      std::memset(begin, 0, size);
      return;
    }
    std::memset(begin, 0, static_cast<size_t>(first_page - begin));
    std::memset(pages_end, 0, static_cast<size_t>(end - pages_end));
  }

 private:
  // Within the mapping, which starts at a page.
  std::byte* AlignUp(std::byte* address) const {
    auto offset = static_cast<size_t>(address - data_);
    return data_ + (offset + kPageBytes - 1) / kPageBytes * kPageBytes;
  }
  static bool Discard(std::byte* begin, std::byte* end) {
    return ::madvise(begin, static_cast<size_t>(end - begin), MADV_DONTNEED) == 0;
  }

  std::byte* data_ = nullptr;
  size_t size_;
};

// Has the blocks of a read fetched while the commands behind it are parsed: the copy into the
// socket, which comes after those, then does not wait for memory line by line.
void Prefetch(const std::byte* memory, size_t size) {
  for (size_t at = 0; at < size; at += kCacheLineBytes) __builtin_prefetch(memory + at, 0, 2);
}

/// Copies or compares the data of an I/O with the memory of a disk, in parts from the start.
class DataCursor {
 public:
  explicit DataCursor(const Io& io) : iov_(io.iovs) {}

  /// The next `size` bytes, for which the I/O has room, go to `memory`, past the caches. Other
  /// threads see them after OrderMediumCopies.
  void CopyTo(std::byte* memory, uint64_t size) {
    Visit(size, [&](std::byte* data, size_t part) {
      bdev::CopyToMedium(memory, data, part);
      memory += part;
    });
  }
  void CopyFrom(const std::byte* memory, uint64_t size) {
    Visit(size, [&](std::byte* data, size_t part) {
      std::memcpy(data, memory, part);
      memory += part;
    });
  }
  bool Equals(const std::byte* memory, uint64_t size) {
    bool equal = true;
    Visit(size, [&](const std::byte* data, size_t part) {
      equal = equal && std::memcmp(memory, data, part) == 0;
      memory += part;
    });
    return equal;
  }

 private:
  template <typename Use>
  void Visit(uint64_t size, Use use) {
    while (size > 0) {
      const size_t part = std::min<uint64_t>(size, iov_->iov_len - used_);
      use(static_cast<std::byte*>(iov_->iov_base) + used_, part);
      size -= part;
      used_ += part;
      if (used_ < iov_->iov_len) return;
      ++iov_;
      used_ = 0;
    }
  }

  const iovec* iov_;
  size_t used_ = 0;  // bytes of *iov_
};

class MallocChannel : public Channel {
 public:
  MallocChannel(Bdev& bdev, Reactor& reactor, const SparseMemory& memory,
                std::shared_ptr<DiskSharing> sharing)
      : Channel(bdev, reactor), memory_(memory), sharing_(std::move(sharing)) {
    sharing_->AddChannel(reactor);
    zero_more_.channel = this;
    zero_more_.run = [](Deferred& self) { static_cast<ZeroMore&>(self).channel->ZeroNextPart(); };
  }
  ~MallocChannel() override { sharing_->RemoveChannel(reactor()); }

 private:
  struct ZeroMore : Deferred {
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
      if (!sharing_->IsOwner(reactor())) return RunLocked(io);
    }
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

  // False: `io` waits until the owner of the disk has given it up.
  bool MayStart(Io& io) {
    if (waiting_.empty()) {
      if (!waiter_) waiter_ = std::make_shared<Waiter>(*this);
      if (sharing_->Request(reactor(), waiter_) != DiskSharing::Access::kWait) return true;
    }
    waiting_.Append(io);
    return false;
  }

  // The last I/O's completion may destroy the channel.
  void SubmitWaiting() {
    bdev::IoQueue ready;
    while (!waiting_.empty()) ready.Append(waiting_.TakeFirst());
    while (!ready.empty()) DoSubmit(ready.TakeFirst());
  }

  // Other reactors may access the same blocks now.
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

  // The first I/O of zeroing_ is completed by ZeroNextPart, which is scheduled and must find the
  // channel.
  bool DoAbort(Io& io) override {
    if (&io == zeroing_.first()) {
      first_aborted_ = true;
      return false;
    }
    bdev::IoQueue::Remove(io);
    Complete(io, IoStatus::kAborted);
    return true;
  }

  std::byte* DoAccessInPlace(IoType type, uint64_t lba, uint64_t block_count) override {
    if (!sharing_->IsOwner(reactor()) &&
        sharing_->TryAccess(reactor()) != DiskSharing::Access::kOwner) {
      return nullptr;
    }
    std::byte* memory = At(lba);
    if (type == IoType::kRead) {
      Prefetch(memory, std::min<size_t>(block_count * bdev().block_size(), kMaxPrefetchBytes));
    }
    return memory;
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
    if (SizeOf(io) <= kZeroBytesPerRound && zeroing_.empty()) {
      ZeroBytes(OffsetOf(io.lba), SizeOf(io));
      return Complete(io, IoStatus::kOk);
    }
    zeroing_.Append(io);
    reactor().Defer(zero_more_);
  }

  // Of whole blocks.
  void ZeroBytes(uint64_t offset, uint64_t size) {
    if (sharing_->IsOwner(reactor())) return memory_.Zero(offset, size);
    if (size < kMinDiscardBytes) {
      return sharing_->VisitLocked(offset, size, [&](uint64_t part, uint64_t part_size) {
        memory_.Zero(part, part_size);
        return true;
      });
    }
    // A page that is given back may be another block's part: not while any block is copied.
    const uint64_t step = sharing_->cycle_bytes();
    for (const uint64_t end = offset + size; offset < end;) {
      const uint64_t part_end = std::min(end, (offset / step + 1) * step);
      sharing_->WithAllLocked([&] { memory_.Zero(offset, part_end - offset); });
      offset = part_end;
    }
  }

  void ZeroNextPart() {
    Io& io = *zeroing_.first();
    const uint64_t left = SizeOf(io) - zeroed_bytes_;
    const uint64_t blocks_per_round =
        std::max<uint64_t>(kZeroBytesPerRound / bdev().block_size(), 1);
    const uint64_t part = std::min<uint64_t>(left, blocks_per_round * bdev().block_size());
    const bool aborted = std::exchange(first_aborted_, false);
    if (!aborted) ZeroBytes(OffsetOf(io.lba) + zeroed_bytes_, part);
    zeroed_bytes_ += part;
    const bool ends = aborted || part == left;
    if (ends) {
      zeroed_bytes_ = 0;
      bdev::IoQueue::Remove(io);
    }
    if (!zeroing_.empty()) reactor().Defer(zero_more_);
    if (ends) Complete(io, aborted ? IoStatus::kAborted : IoStatus::kOk);
  }

  const SparseMemory& memory_;
  const std::shared_ptr<DiskSharing> sharing_;
  std::shared_ptr<Waiter> waiter_;
  bdev::IoQueue waiting_;  // for the owner of the disk
  bdev::IoQueue zeroing_;  // large ranges, the first in part
  bool first_aborted_ = false;
  uint64_t zeroed_bytes_ = 0;
  ZeroMore zero_more_;
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

// Counts on whether or not the name is free, as SPDK does.
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

}  // namespace sma::target::bdev_modules
