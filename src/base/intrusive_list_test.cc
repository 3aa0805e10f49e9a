// SPDX-License-Identifier: Apache-2.0

#include "base/intrusive_list.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace sma::base {
namespace {

struct Item : ListLink<Item> {
  int number = 0;
  Item* next = nullptr;
};

using Numbers = std::vector<int>;

class IntrusiveListTest : public testing::Test {
 protected:
  IntrusiveListTest() {
    for (int i = 0; i < static_cast<int>(items_.size()); ++i) items_[i].number = i;
  }

  static Numbers Of(const IntrusiveList<Item>& list) {
    Numbers numbers;
    for (Item* item = list.first(); item != nullptr; item = list.After(*item))
      numbers.push_back(item->number);
    return numbers;
  }

  static Numbers Of(const IntrusiveQueue<Item>& queue) {
    Numbers numbers;
    for (Item* item = queue.first(); item != nullptr; item = item->next)
      numbers.push_back(item->number);
    return numbers;
  }

  std::array<Item, 6> items_;
};

TEST_F(IntrusiveListTest, AListIsFirstInFirstOut) {
  IntrusiveList<Item> list;
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.first(), nullptr);
  list.Append(items_[1]);
  list.Append(items_[2]);
  list.Prepend(items_[0]);
  EXPECT_EQ(Of(list), Numbers({0, 1, 2}));
  EXPECT_EQ(&list.TakeFirst(), &items_[0]);
  EXPECT_FALSE(list.Has(items_[0]));
  EXPECT_TRUE(list.Has(items_[1]));
}

TEST_F(IntrusiveListTest, AnyElementOfAListCanBeRemovedAndAppendedAgain) {
  IntrusiveList<Item> list;
  for (Item& item : items_) list.Append(item);
  for (int i : {2, 0, 5}) IntrusiveList<Item>::Remove(items_[i]);
  EXPECT_EQ(Of(list), Numbers({1, 3, 4}));
  list.Append(items_[2]);
  EXPECT_EQ(Of(list), Numbers({1, 3, 4, 2}));
  while (!list.empty()) list.TakeFirst();
  EXPECT_FALSE(list.Has(items_[2]));
}

TEST_F(IntrusiveListTest, AListTakesTheElementsOfAnotherAtBothEnds) {
  IntrusiveList<Item> list, empty, front, end;
  list.Append(items_[2]);
  front.Append(items_[0]);
  front.Append(items_[1]);
  end.Append(items_[3]);
  end.Append(items_[4]);
  list.Take(empty);
  list.TakeToFront(empty);
  list.TakeToFront(front);
  list.Take(end);
  EXPECT_TRUE(front.empty() && end.empty());
  EXPECT_EQ(Of(list), Numbers({0, 1, 2, 3, 4}));
  front.Take(list);
  EXPECT_TRUE(list.empty());
  front.Append(items_[5]);
  EXPECT_EQ(Of(front), Numbers({0, 1, 2, 3, 4, 5}));
  while (!front.empty()) front.TakeFirst();
}

TEST_F(IntrusiveListTest, AQueueIsFirstInFirstOut) {
  IntrusiveQueue<Item> queue;
  EXPECT_TRUE(queue.empty());
  for (int round = 0; round < 2; ++round) {
    for (int i : {0, 1, 2}) queue.Append(items_[i]);
    EXPECT_EQ(&queue.TakeFirst(), &items_[0]);
    EXPECT_EQ(Of(queue), Numbers({1, 2}));
    EXPECT_EQ(queue.TakeAll(), &items_[1]);
    EXPECT_TRUE(queue.empty());
  }
}

TEST_F(IntrusiveListTest, AQueueCanBeAppendedToAfterAnyRemoval) {
  for (int removed : {0, 1, 2}) {
    IntrusiveQueue<Item> queue;
    for (int i : {0, 1, 2}) queue.Append(items_[i]);
    EXPECT_FALSE(queue.Remove(items_[5]));
    EXPECT_TRUE(queue.Remove(items_[removed]));
    queue.Append(items_[3]);
    Numbers expected;
    for (int i : {0, 1, 2, 3})
      if (i != removed) expected.push_back(i);
    EXPECT_EQ(Of(queue), expected);
    EXPECT_TRUE(queue.RemoveIf([](const Item& item) { return item.number < 3; }));
    EXPECT_EQ(Of(queue), Numbers({3}));
    queue.TakeFirst();
    queue.Append(items_[4]);
    EXPECT_EQ(Of(queue), Numbers({4}));
  }
}

}  // namespace
}  // namespace sma::base
