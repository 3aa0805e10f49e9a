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

enum class Direction { kToMemory, kFromMemory };

void Copy(const Io& io, std::byte* memory, Direction direction) {
  for (uint32_t i = 0; i < io.iov_count; ++i) {
    const iovec& iov = io.iovs[i];
    if (direction == Direction::kToMemory) {
      bdev::CopyToMedium(memory, static_cast<const std::byte*>(iov.iov_base), iov.iov_len);
    } else {
      std::memcpy(iov.iov_base, memory, iov.iov_len);
    }
    memory += iov.iov_len;
  }
  if (direction == Direction::kToMemory) bdev::OrderMediumCopies();
}

bool Equal(const Io& io, const std::byte* memory) {
  for (uint32_t i = 0; i < io.iov_count; ++i) {
    if (std::memcmp(memory, io.iovs[i].iov_base, io.iovs[i].iov_len) != 0) return false;
    memory += io.iovs[i].iov_len;
  }
  return true;
}

class MallocChannel : public Channel {
 public:
  MallocChannel(Bdev& bdev, Reactor& reactor, const SparseMemory& memory)
      : Channel(bdev, reactor), memory_(memory) {
    zero_more_.channel = this;
    zero_more_.run = [](Deferred& self) { static_cast<ZeroMore&>(self).channel->ZeroNextPart(); };
  }

 private:
  struct ZeroMore : Deferred {
    MallocChannel* channel;
  };

  std::byte* At(uint64_t lba) const { return memory_.data() + lba * bdev().block_size(); }

  void DoSubmit(Io& io) override {
    IoStatus status = IoStatus::kOk;
    switch (io.type) {
      case IoType::kRead:
        Copy(io, At(io.lba), Direction::kFromMemory);
        break;
      case IoType::kWrite:
        Copy(io, At(io.lba), Direction::kToMemory);
        break;
      case IoType::kCompare:
        if (!Equal(io, At(io.lba))) status = IoStatus::kMiscompare;
        break;
      case IoType::kUnmap:
      case IoType::kWriteZeroes:
        return Zero(io);
      case IoType::kFlush:
        break;
    }
    Complete(io, status);
  }

  // Only what is zeroed in parts waits here. The first of them is ended by ZeroNextPart, which is
  // scheduled and must find the channel.
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
    std::byte* memory = At(lba);
    if (type == IoType::kRead) {
      Prefetch(memory, std::min<size_t>(block_count * bdev().block_size(), kMaxPrefetchBytes));
    }
    return memory;
  }

  void Zero(Io& io) {
    size_t size = io.block_count * bdev().block_size();
    if (size <= kZeroBytesPerRound && zeroing_.empty()) {
      memory_.Zero(io.lba * bdev().block_size(), size);
      return Complete(io, IoStatus::kOk);
    }
    zeroing_.Append(io);
    reactor().Defer(zero_more_);
  }

  void ZeroNextPart() {
    Io& io = *zeroing_.first();
    uint64_t offset = io.lba * bdev().block_size() + zeroed_bytes_;
    uint64_t left = io.block_count * bdev().block_size() - zeroed_bytes_;
    size_t part = std::min<uint64_t>(left, kZeroBytesPerRound);
    const bool aborted = std::exchange(first_aborted_, false);
    if (!aborted) memory_.Zero(offset, part);
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
    return std::make_unique<MallocChannel>(*this, reactor, memory_);
  }

 private:
  const SparseMemory memory_;
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
