#include "target/nvmf/tcp/buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace sma::target::nvmf::tcp {
namespace {

constexpr size_t kShareOfFree = 4;
constexpr size_t kLeastPart = 8;

MappedMemory Map(size_t size_bytes) {
  const size_t least = size_bytes / kLeastPart;
  MappedMemory memory(size_bytes);
  while (!memory.valid() && size_bytes / 2 >= least) {
    size_bytes = size_bytes / 2 / BufferArena::kGranularity * BufferArena::kGranularity;
    memory = MappedMemory(size_bytes);
  }
  return memory;
}

}  // namespace

BufferPool::BufferPool(Reactor& reactor, size_t size_bytes)
    : reactor_(reactor),
      memory_(Map(size_bytes)),
      arena_(std::span(memory_.data(), memory_.size())) {
  serve_.pool = this;
  serve_.run = [](Deferred& self) { static_cast<Serve&>(self).pool->ServeWaiting(); };
}

std::byte* BufferPool::Allocate(User& user, size_t size_bytes) {
  if (exhausted_) return nullptr;
  size_t rounded = BufferArena::RoundedSize(size_bytes);
  size_t share = (memory_.size() - used_bytes_) / kShareOfFree;
  if (user.used_bytes_ != 0 && user.used_bytes_ + rounded > share) return nullptr;
  std::byte* buffer = arena_.Allocate(size_bytes);
  if (buffer == nullptr) {
    exhausted_ = true;
    return nullptr;
  }
  user.used_bytes_ += rounded;
  used_bytes_ += rounded;
  peak_bytes_ = std::max(peak_bytes_, static_cast<size_t>(buffer - memory_.data()) + rounded);
  touched_bytes_ = std::max(touched_bytes_, peak_bytes_);
  return buffer;
}

void BufferPool::Free(User& user, std::byte* buffer, size_t size_bytes) {
  arena_.Free(buffer, size_bytes);
  size_t rounded = BufferArena::RoundedSize(size_bytes);
  user.used_bytes_ -= rounded;
  used_bytes_ -= rounded;
  if (waiting_head_ == nullptr) {
    exhausted_ = false;
  } else {
    reactor_.Defer(serve_);
  }
}

void BufferPool::Wait(User& user) {
  if (user.waiting()) return;
  ++waiting_count_;
  if (waiting_head_ == nullptr) {
    waiting_head_ = user.next_ = user.previous_ = &user;
    return;
  }
  user.next_ = waiting_head_;
  user.previous_ = waiting_head_->previous_;
  user.previous_->next_ = &user;
  waiting_head_->previous_ = &user;
}

void BufferPool::StopWaiting(User& user) {
  if (!user.waiting()) return;
  --waiting_count_;
  User* next = user.next_;
  next->previous_ = user.previous_;
  user.previous_->next_ = next;
  if (waiting_head_ == &user) waiting_head_ = next == &user ? nullptr : next;
  user.next_ = user.previous_ = nullptr;
  if (waiting_head_ == nullptr) {
    exhausted_ = false;
  } else {
    reactor_.Defer(serve_);
  }
}

// Goes round those that wait, one command each, while somebody gets something. One that is over its
// share is passed over; one that finds too little memory keeps its place, and the others wait for
// it.
void BufferPool::ServeWaiting() {
  for (bool served = true; served;) {
    served = false;
    for (size_t left = waiting_count_; left > 0; --left) {
      User& user = *waiting_head_;
      exhausted_ = false;
      Turn turn = user.TakeTurn();
      if (turn == Turn::kNotServed && exhausted_) return;
      served |= turn != Turn::kNotServed;
      waiting_head_ = user.next_;
      if (turn == Turn::kServedLast) StopWaiting(user);
    }
  }
}

void BufferPool::Trim() {
  size_t keep = std::max({peak_bytes_, last_peak_bytes_, arena_.used_end_bytes()});
  last_peak_bytes_ = std::exchange(peak_bytes_, arena_.used_end_bytes());
  if (keep >= touched_bytes_) return;
  ::madvise(memory_.data() + keep, touched_bytes_ - keep, MADV_DONTNEED);
  touched_bytes_ = keep;
}

}  // namespace sma::target::nvmf::tcp
