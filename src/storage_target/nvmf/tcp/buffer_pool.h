// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "base/intrusive_list.h"
#include "storage_target/nvmf/tcp/buffer_arena.h"
#include "storage_target/nvmf/tcp/mapped_memory.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/reactor/work.h"

namespace sma::storage_target::nvmf::tcp {

/// The memory for the data of all commands of one reactor's connections. It is limited: if there is
/// no memory, a user waits for its turn. The users of one host (NQN and host identifier) form an
/// account. So that hosts and users that keep buffers for a long time leave memory for others, an
/// account gets a second buffer only if it then has no more than is free, and a user only a quarter
/// of that. The last quarter of the pool is kept for host NQNs that have at most 1/64 of it,
/// because a host can choose its identifier. Accounts take turns, and so do the users of each.
/// Memory that is unused for a while is returned to the kernel. Owned by the reactor.
class BufferPool {
  struct Nqn;
  struct Account;

 public:
  /// The result of a waiting user's turn.
  enum class Turn {
    kServed,      // one command got memory, and more are waiting
    kServedLast,  // no more commands are waiting
    kNotServed,   // Allocate returned nullptr
  };

  /// The part of a connection that uses the pool: the size of its buffers and its position among
  /// the waiting users.
  class User : private base::ListLink<User> {
   public:
    virtual ~User() = default;
    size_t used_bytes() const { return used_bytes_; }
    bool waiting() const { return base::IntrusiveList<User>::Has(*this); }

   protected:
    /// Called when memory may be free, at the end of a round of the loop: must call Allocate for
    /// the command that has waited longest. Must not call Wait, StopWaiting or Free.
    virtual Turn TakeTurn() = 0;

   private:
    friend class BufferPool;
    friend class base::IntrusiveList<User>;
    size_t used_bytes_ = 0;
    Account* account_ = nullptr;
  };

  /// `size_bytes` must be a multiple of BufferArena::kGranularity. The pool will be smaller if the
  /// process cannot map that much address space.
  BufferPool(Reactor& reactor, size_t size_bytes);
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  /// Returns false if the kernel granted no address space; no other method may be called then.
  bool valid() const { return memory_.valid(); }

  /// Adds `user` to the account of the host, or moves it there; it must not be waiting. Must be
  /// called before the other methods with this user.
  void Join(User& user, const std::string& host_nqn, const std::string& host_id = "");
  /// Must be called before a user is destroyed, which must have no buffers and not be waiting.
  void Leave(User& user);

  /// Returns a contiguous, page-aligned buffer, or nullptr if there is none for this user at
  /// present. The user then calls Wait.
  std::byte* Allocate(User& user, size_t size_bytes);
  /// Frees a buffer. `size_bytes` must be the size passed to Allocate.
  void Free(User& user, std::byte* buffer, size_t size_bytes);

  /// Makes the pool call TakeTurn when memory may be free, after the users of the account that are
  /// already waiting. Idempotent.
  void Wait(User& user);
  /// Ends the wait. Idempotent. Must be called before a user is destroyed.
  void StopWaiting(User& user);
  bool has_waiting() const { return !waiting_.empty(); }
  /// Returns true if another host waits for memory.
  bool OthersWait(const User& user) const;
  /// Returns the memory that the host of `user` has, in bytes.
  size_t HostUsedBytes(const User& user) const;

  /// Returns memory to the kernel that has not been used since the second-to-last call. To be
  /// called periodically.
  void Trim();
  size_t used_bytes() const { return used_bytes_; }
  /// Returns the amount of memory that may be resident, in bytes.
  size_t touched_bytes() const { return touched_bytes_; }

 private:
  struct Serve : Deferred {
    BufferPool* pool;
  };
  /// The accounts of one host NQN.
  struct Nqn {
    size_t user_count = 0;
    size_t used_bytes = 0;
  };
  using Key = std::pair<std::string, std::string>;  // host NQN and host identifier
  /// The users of one host.
  struct Account : base::ListLink<Account> {
    const Key* key = nullptr;
    Nqn* nqn = nullptr;
    size_t user_count = 0;
    size_t used_bytes = 0;
    base::IntrusiveList<User> waiting;
    size_t waiting_count = 0;
    // Too little of the account's share for its first waiting user, which no other of its users may
    // overtake.
    bool exhausted = false;
  };
  void ServeWaiting();
  bool ServeOne(Account& account);
  static void Charge(Account& account, ptrdiff_t bytes);
  bool IsBeyondShare(const Account& account, size_t size_bytes) const;

  Reactor& reactor_;
  MappedMemory memory_;
  BufferArena arena_;
  size_t used_bytes_ = 0;
  size_t touched_bytes_ =
      0;                   // memory from here on was never touched, or was returned to the kernel
  size_t peak_bytes_ = 0;  // end of the highest buffer since the last Trim
  size_t last_peak_bytes_ = 0;
  std::map<std::string, Nqn> nqns_;
  std::map<Key, Account> accounts_;
  base::IntrusiveList<Account> waiting_;  // the accounts with waiting users
  size_t waiting_count_ = 0;
  // Too little memory for the first waiting user, which no other may overtake.
  bool exhausted_ = false;
  Serve serve_;
};

}  // namespace sma::storage_target::nvmf::tcp
