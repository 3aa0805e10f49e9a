// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace sma::jsonrpc {

/// Splits a byte stream into top-level JSON objects and arrays, with or without white space between
/// them. It only finds the end of each value; the parser checks that a value is valid JSON. Every
/// byte is examined only once, however the stream is divided. Owns the bytes until they are
/// consumed. Not thread-safe.
///
/// Usage: Prepare(), receive into the returned room, Commit(); then Next() until it does not return
/// kValue.
class Splitter {
 public:
  enum class Outcome {
    kValue,     // a complete value
    kNeedMore,  // no complete value so far
    kJunk,      // not an object or array, or nested deeper than kMaxNesting
    kTooLarge,  // the value is larger than the limit
  };

  /// `max_value_bytes` is the size of the largest value that is accepted.
  explicit Splitter(size_t max_value_bytes) : max_value_bytes_(max_value_bytes) {}

  /// Returns room for at least `min_bytes` more bytes of the stream. Invalidates the view that
  /// Next() returned.
  std::span<char> Prepare(size_t min_bytes);

  /// Appends the first `count` bytes of that room to the stream.
  void Commit(size_t count);

  /// Combines Prepare and Commit, for bytes in another buffer.
  void Append(std::string_view bytes);

  /// Finds the next value. On kValue, sets `value` to its text. The view is valid until the next
  /// call of Next(), Prepare() or Append(), which overwrites the text, because it may contain
  /// secrets. kJunk and kTooLarge are final: the rest of the stream cannot be used.
  Outcome Next(std::string_view& value);

  /// Returns the number of bytes that do not belong to any value returned so far.
  size_t pending_bytes() const { return end_ - begin_; }

 private:
  void WipeGiven();
  Outcome SkipSpace();
  void ScanString(size_t limit);
  Outcome Scan();

  const size_t max_value_bytes_;
  std::vector<char> buffer_;
  size_t given_ = 0;  // end of the returned values that have not been overwritten; 0: none
  size_t begin_ = 0;  // start of the current value (or of white space before it) in buffer_
  size_t scan_ = 0;   // the first byte that has not been examined
  size_t end_ = 0;    // past the last byte received
  int depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;                  // the previous byte was a backslash inside a string
  Outcome failure_ = Outcome::kNeedMore;  // kJunk or kTooLarge after such an error
};

}  // namespace sma::jsonrpc
