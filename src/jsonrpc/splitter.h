#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace sma::jsonrpc {

/// Cuts a byte stream into its top-level JSON objects and arrays, which may follow each other with
/// or without white space between. It finds only where each one ends: that a value is sound JSON is
/// for the parser to say. Every byte is looked at once, however the stream is cut into pieces. Owns
/// the bytes until they are consumed. Not synchronised.
///
/// Use: Prepare(), receive into what it gives, Commit(); then Next() until it no longer says
/// kValue.
class Splitter {
 public:
  enum class Outcome {
    kValue,     // a whole value is there
    kNeedMore,  // no whole value yet
    kJunk,      // what comes is no object or array, or is nested deeper than kMaxNesting
    kTooLarge,  // the value is larger than the limit
  };

  /// `max_value_bytes`: the size of the largest value that is taken.
  explicit Splitter(size_t max_value_bytes) : max_value_bytes_(max_value_bytes) {}

  /// Room for at least `min_bytes` more bytes of the stream. Ends the life of the view that Next()
  /// gave.
  std::span<char> Prepare(size_t min_bytes);

  /// The first `count` bytes of that room now hold what came next in the stream.
  void Commit(size_t count);

  /// Prepare and Commit in one, for bytes that are elsewhere.
  void Append(std::string_view bytes);

  /// On kValue sets `value` to the text of the next value, valid until the next call of Next(),
  /// Prepare() or Append(), which overwrites it, since it may hold secrets. kJunk and kTooLarge
  /// stay: the stream cannot be picked up again.
  Outcome Next(std::string_view& value);

  /// Bytes held that belong to no value given out yet.
  size_t pending_bytes() const { return end_ - begin_; }

 private:
  void WipeGiven();
  Outcome SkipSpace();
  void ScanString(size_t limit);
  Outcome Scan();

  const size_t max_value_bytes_;
  std::vector<char> buffer_;
  size_t given_ = 0;  // what was given out and not overwritten ends here; 0: nothing
  size_t begin_ = 0;  // where the present value (or white space before it) starts in buffer_
  size_t scan_ = 0;   // the first byte not looked at yet
  size_t end_ = 0;    // past the last byte received
  int depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;                  // the byte before was a backslash inside a string
  Outcome failure_ = Outcome::kNeedMore;  // kJunk or kTooLarge once that was seen
};

}  // namespace sma::jsonrpc
