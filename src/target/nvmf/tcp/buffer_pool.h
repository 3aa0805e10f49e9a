#pragma once

#include <cstddef>
#include <cstdint>

#include "target/nvmf/tcp/buffer_arena.h"
#include "target/nvmf/tcp/mapped_memory.h"
#include "target/reactor/reactor.h"
#include "target/reactor/work.h"

namespace sma::target::nvmf::tcp {

/// The memory for data of all commands of one reactor's connections. Bounded: who finds nothing
/// waits, in turn with the other connections. A user with a buffer gets more only while it has less
/// than a quarter of what is free, so that those that keep theirs for long leave some to others.
/// Memory that was not used for a while goes back to the kernel. Owned by the reactor's thread.
class BufferPool {
 public:
  /// What a waiting user did with its turn.
  enum class Turn {
    kServed,      // one command got its memory, and more wait
    kServedLast,  // no more command waits
    kNotServed,   // Allocate gave nothing
  };

  /// Part of a connection: what it has from the pool, and its place among those that wait.
  class User {
   public:
    virtual ~User() = default;
    size_t used_bytes() const { return used_bytes_; }
    bool waiting() const { return next_ != nullptr; }

   protected:
    /// Memory may be free: calls Allocate for the command that waits longest. Called at the end of
    /// a round of the loop. Must not call Wait, StopWaiting or Free.
    virtual Turn TakeTurn() = 0;

   private:
    friend class BufferPool;
    size_t used_bytes_ = 0;
    User* next_ = nullptr;  // those that wait, a circular list; null: not waiting
    User* previous_ = nullptr;
  };

  /// `size_bytes`: a multiple of BufferArena::kGranularity. The pool is smaller when the process
  /// may not have as much address space.
  BufferPool(Reactor& reactor, size_t size_bytes);
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  /// False when the kernel gave no address space; nothing else must be called then.
  bool valid() const { return memory_.valid(); }

  /// A contiguous buffer that begins at a page; nullptr when there is none for this user now. It
  /// then calls Wait.
  std::byte* Allocate(User& user, size_t size_bytes);
  /// `size_bytes` as given to Allocate.
  void Free(User& user, std::byte* buffer, size_t size_bytes);

  /// TakeTurn is called when memory may be free, after those that wait already. Idempotent.
  void Wait(User& user);
  /// The user waits no more. Idempotent. Before it is destroyed.
  void StopWaiting(User& user);
  bool has_waiting() const { return waiting_head_ != nullptr; }

  /// Gives memory back to the kernel that was not in use since the call before the last. For a
  /// timer.
  void Trim();
  size_t used_bytes() const { return used_bytes_; }
  /// Memory that may be resident, in bytes.
  size_t touched_bytes() const { return touched_bytes_; }

 private:
  struct Serve : Deferred {
    BufferPool* pool;
  };
  void ServeWaiting();

  Reactor& reactor_;
  MappedMemory memory_;
  BufferArena arena_;
  size_t used_bytes_ = 0;
  size_t touched_bytes_ = 0;  // memory from there on was never touched, or has been given back
  size_t peak_bytes_ = 0;     // the end of the highest buffer since the last Trim
  size_t last_peak_bytes_ = 0;
  User* waiting_head_ = nullptr;
  size_t waiting_count_ = 0;
  bool exhausted_ = false;  // the first that waits found too little: nobody overtakes it
  Serve serve_;
};

}  // namespace sma::target::nvmf::tcp
