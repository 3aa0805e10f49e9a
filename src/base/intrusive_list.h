// SPDX-License-Identifier: Apache-2.0

#pragma once

// Lists that are linked through their elements, so that nothing allocates. A list does not own its
// elements, which must outlive their membership. Not thread-safe.

namespace sma::base {

template <typename T>
class IntrusiveList;

/// The base class of an element of an IntrusiveList<T>: `struct T : ListLink<T>`. An element is in
/// at most one list.
template <typename T>
class ListLink {
 private:
  friend class IntrusiveList<T>;
  ListLink* next_ = nullptr;  // of a circle through the list; null if in no list
  ListLink* previous_ = nullptr;
};

/// A list from which each element can be removed in constant time, without access to the list.
template <typename T>
class IntrusiveList {
 public:
  IntrusiveList() { ends_.next_ = ends_.previous_ = &ends_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;

  bool empty() const { return ends_.next_ == &ends_; }
  /// Returns the first element; null if the list is empty.
  T* first() const { return At(ends_.next_); }
  /// Returns the element after `element`, which must be in this list, or null if it is the last.
  T* After(const T& element) const { return At(LinkOf(element).next_); }

  /// Appends `element`, which must not be in a list.
  void Append(T& element) { Insert(element, ends_); }
  void Prepend(T& element) { Insert(element, *ends_.next_); }

  /// Removes and returns the first element. The list must not be empty.
  T& TakeFirst() {
    T& element = *first();
    Remove(element);
    return element;
  }

  /// Moves all elements of `other` to the end.
  void Take(IntrusiveList& other) { TakeBefore(ends_, other); }
  /// Moves all elements of `other` to the front.
  void TakeToFront(IntrusiveList& other) { TakeBefore(*ends_.next_, other); }

  /// Returns true if `element` is in a list.
  static bool Has(const T& element) { return LinkOf(element).next_ != nullptr; }

  /// Removes `element` from its list.
  static void Remove(T& element) {
    ListLink<T>& link = element;
    link.previous_->next_ = link.next_;
    link.next_->previous_ = link.previous_;
    link.next_ = link.previous_ = nullptr;
  }

 private:
  static const ListLink<T>& LinkOf(const T& element) { return element; }

  T* At(ListLink<T>* link) const { return link == &ends_ ? nullptr : static_cast<T*>(link); }

  static void Insert(ListLink<T>& link, ListLink<T>& before) {
    link.next_ = &before;
    link.previous_ = before.previous_;
    before.previous_->next_ = &link;
    before.previous_ = &link;
  }

  static void TakeBefore(ListLink<T>& before, IntrusiveList& other) {
    if (other.empty()) return;
    ListLink<T>& ends = other.ends_;
    ends.next_->previous_ = before.previous_;
    before.previous_->next_ = ends.next_;
    ends.previous_->next_ = &before;
    before.previous_ = ends.previous_;
    ends.next_ = ends.previous_ = &ends;
  }

  ListLink<T> ends_;
};

/// A FIFO queue that needs one pointer in each element, the member `kNext`, which other code may
/// use while the element is in no queue. Removing from the middle searches the queue.
template <typename T, T* T::*kNext = &T::next>
class IntrusiveQueue {
 public:
  IntrusiveQueue() = default;
  IntrusiveQueue(const IntrusiveQueue&) = delete;
  IntrusiveQueue& operator=(const IntrusiveQueue&) = delete;

  bool empty() const { return head_ == nullptr; }
  /// Returns null if the queue is empty. Otherwise returns the first element, from which the others
  /// are linked by `kNext`.
  T* first() const { return head_; }

  void Append(T& element) {
    element.*kNext = nullptr;
    *tail_ = &element;
    tail_ = &(element.*kNext);
  }

  /// Removes and returns the first element. The queue must not be empty.
  T& TakeFirst() {
    T& element = *head_;
    head_ = element.*kNext;
    if (head_ == nullptr) tail_ = &head_;
    return element;
  }

  /// Removes all elements and returns the first, as first() does.
  T* TakeAll() {
    T* element = head_;
    Clear();
    return element;
  }

  void Clear() {
    head_ = nullptr;
    tail_ = &head_;
  }

  /// Removes all elements for which `is_removed` returns true. Returns true if there was one.
  template <typename Predicate>
  bool RemoveIf(Predicate is_removed) {
    bool any = false;
    T** at = &head_;
    while (*at != nullptr) {
      if (is_removed(**at)) {
        *at = (*at)->*kNext;
        any = true;
      } else {
        at = &((*at)->*kNext);
      }
    }
    tail_ = at;
    return any;
  }

  /// Removes `element`. Returns false if it is not in this queue.
  bool Remove(const T& element) {
    return RemoveIf([&](const T& other) { return &other == &element; });
  }

 private:
  T* head_ = nullptr;
  T** tail_ = &head_;  // the pointer that ends the queue
};

}  // namespace sma::base
