// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace sma::storage_target::nvmf::tcp {
namespace {

constexpr size_t kUserShareOfFree = 4;
constexpr size_t kKeptPart = 4;     // of the pool, for host NQNs that have little
constexpr size_t kLittlePart = 64;  // of the pool
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

void BufferPool::Join(User& user, const std::string& host_nqn, const std::string& host_id) {
  auto at = accounts_.try_emplace({host_nqn, host_id}).first;
  Account& account = at->second;
  account.key = &at->first;
  account.nqn = &nqns_[host_nqn];
  ++account.user_count;  // before Leave, which may remove the account
  ++account.nqn->user_count;
  if (user.account_ != nullptr) {
    Charge(*user.account_, -static_cast<ptrdiff_t>(user.used_bytes_));
    Leave(user);
  }
  Charge(account, static_cast<ptrdiff_t>(user.used_bytes_));
  user.account_ = &account;
}

void BufferPool::Leave(User& user) {
  Account& account = *std::exchange(user.account_, nullptr);
  if (--account.nqn->user_count == 0) nqns_.erase(nqns_.find(account.key->first));
  if (--account.user_count == 0) accounts_.erase(accounts_.find(*account.key));
}

void BufferPool::Charge(Account& account, ptrdiff_t bytes) {
  account.used_bytes += static_cast<size_t>(bytes);
  account.nqn->used_bytes += static_cast<size_t>(bytes);
}

// Returns true if the account, or its host NQN, has so much that it must leave the rest to others.
bool BufferPool::IsBeyondShare(const Account& account, size_t size_bytes) const {
  if (account.nqn->used_bytes == 0) return false;
  bool little = account.nqn->used_bytes + size_bytes <= memory_.size() / kLittlePart;
  size_t kept = little ? 0 : memory_.size() / kKeptPart;
  return account.used_bytes + size_bytes + kept > memory_.size() - used_bytes_;
}

std::byte* BufferPool::Allocate(User& user, size_t size_bytes) {
  Account& account = *user.account_;
  if (exhausted_ || account.exhausted) return nullptr;
  size_t rounded = BufferArena::RoundedSize(size_bytes);
  size_t free = memory_.size() - used_bytes_;
  if (user.used_bytes_ != 0 && user.used_bytes_ + rounded > free / kUserShareOfFree) return nullptr;
  account.exhausted = IsBeyondShare(account, rounded);
  if (account.exhausted) return nullptr;
  std::byte* buffer = arena_.Allocate(size_bytes);
  if (buffer == nullptr) {
    exhausted_ = true;
    return nullptr;
  }
  Charge(account, static_cast<ptrdiff_t>(rounded));
  user.used_bytes_ += rounded;
  used_bytes_ += rounded;
  peak_bytes_ = std::max(peak_bytes_, static_cast<size_t>(buffer - memory_.data()) + rounded);
  touched_bytes_ = std::max(touched_bytes_, peak_bytes_);
  return buffer;
}

void BufferPool::Free(User& user, std::byte* buffer, size_t size_bytes) {
  arena_.Free(buffer, size_bytes);
  size_t rounded = BufferArena::RoundedSize(size_bytes);
  Charge(*user.account_, -static_cast<ptrdiff_t>(rounded));
  user.used_bytes_ -= rounded;
  used_bytes_ -= rounded;
  if (user.account_->waiting.empty()) user.account_->exhausted = false;
  if (waiting_.empty()) {
    exhausted_ = false;
  } else {
    reactor_.Defer(serve_);
  }
}

void BufferPool::Wait(User& user) {
  if (user.waiting()) return;
  Account& account = *user.account_;
  if (account.waiting.empty()) {
    ++waiting_count_;
    waiting_.Append(account);
  }
  ++account.waiting_count;
  account.waiting.Append(user);
}

void BufferPool::StopWaiting(User& user) {
  if (!user.waiting()) return;
  Account& account = *user.account_;
  --account.waiting_count;
  base::IntrusiveList<User>::Remove(user);
  if (account.waiting.empty()) {
    account.exhausted = false;
    --waiting_count_;
    base::IntrusiveList<Account>::Remove(account);
  }
  if (waiting_.empty()) {
    exhausted_ = false;
  } else {
    reactor_.Defer(serve_);
  }
}

bool BufferPool::OthersWait(const User& user) const {
  return waiting_count_ > (user.account_->waiting.empty() ? 0U : 1U);
}

size_t BufferPool::HostUsedBytes(const User& user) const { return user.account_->used_bytes; }

// Serves waiting accounts in turn, one command each, until none gets memory. An account beyond its
// share is skipped. A user for which there is too little memory keeps its position and that of its
// account, and the others wait for it.
void BufferPool::ServeWaiting() {
  for (bool served = true; served;) {
    served = false;
    for (size_t left = waiting_count_; left > 0; --left) {
      Account& account = *waiting_.first();
      served |= ServeOne(account);
      if (exhausted_) return;
      if (!account.waiting.empty()) waiting_.Append(waiting_.TakeFirst());
    }
  }
}

// Serves one command of the first user that is not beyond its share. Returns false if there is none
// or if there is no memory for it.
bool BufferPool::ServeOne(Account& account) {
  for (size_t left = account.waiting_count; left > 0; --left) {
    User& user = *account.waiting.first();
    exhausted_ = account.exhausted = false;
    Turn turn = user.TakeTurn();
    if (turn == Turn::kNotServed && (exhausted_ || account.exhausted)) return false;
    if (turn == Turn::kServedLast) {
      StopWaiting(user);
    } else {
      account.waiting.Append(account.waiting.TakeFirst());
    }
    if (turn != Turn::kNotServed) return true;
  }
  return false;
}

void BufferPool::Trim() {
  size_t keep = std::max({peak_bytes_, last_peak_bytes_, arena_.used_end_bytes()});
  last_peak_bytes_ = std::exchange(peak_bytes_, arena_.used_end_bytes());
  if (keep >= touched_bytes_) return;
  ::madvise(memory_.data() + keep, touched_bytes_ - keep, MADV_DONTNEED);
  touched_bytes_ = keep;
}

}  // namespace sma::storage_target::nvmf::tcp
