// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/buffer_arena.h"

#include <gtest/gtest.h>

#include "storage_target/nvmf/tcp/mapped_memory.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

TEST(BufferArenaTest, AllocatesAllItsMemoryOnce) {
  MappedMemory memory(BufferArena::kGranularity * 2);
  BufferArena arena({memory.data(), memory.size()});
  std::vector<std::byte*> buffers;
  while (std::byte* buffer = arena.Allocate(131072)) buffers.push_back(buffer);
  ASSERT_EQ(buffers.size(), 4u);
  EXPECT_EQ(arena.Allocate(1), nullptr);
  arena.Free(buffers[1], 131072);
  EXPECT_EQ(arena.Allocate(100000), buffers[1]);
}

TEST(BufferArenaTest, UsesTheLowestFreeAddress) {
  MappedMemory memory(BufferArena::kGranularity);
  BufferArena arena({memory.data(), memory.size()});
  std::byte* page = arena.Allocate(1);
  EXPECT_EQ(page, memory.data());
  EXPECT_EQ(arena.Allocate(8192), memory.data() + 8192);
  EXPECT_EQ(arena.Allocate(4096), memory.data() + 4096);
  EXPECT_EQ(arena.Allocate(262144), nullptr);
  arena.Free(page, 1);
  EXPECT_EQ(arena.Allocate(5), memory.data());
}

TEST(BufferArenaTest, AllocatesBuffersOfManyWords) {
  MappedMemory memory(BufferArena::kGranularity * 4);
  BufferArena arena({memory.data(), memory.size()});
  std::byte* first = arena.Allocate(BufferArena::kGranularity * 2);
  EXPECT_EQ(first, memory.data());
  std::byte* second = arena.Allocate(BufferArena::kGranularity + 1);
  EXPECT_EQ(second, memory.data() + BufferArena::kGranularity * 2);
  EXPECT_EQ(arena.Allocate(4096), nullptr);
  arena.Free(first, BufferArena::kGranularity * 2);
  EXPECT_EQ(arena.Allocate(BufferArena::kGranularity), memory.data());
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
