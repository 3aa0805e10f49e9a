// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/splitter.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <cstring>

#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {
namespace {

// A buffer that has grown beyond this size is freed when it is empty.
constexpr size_t kKeepBytes = 256 * 1024;

enum ByteClass : uint8_t { kOther, kSpace, kOpen, kClose, kQuote };

constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> classes{};
  for (char c : {' ', '\t', '\r', '\n'}) classes[static_cast<uint8_t>(c)] = kSpace;
  for (char c : {'{', '['}) classes[static_cast<uint8_t>(c)] = kOpen;
  for (char c : {'}', ']'}) classes[static_cast<uint8_t>(c)] = kClose;
  classes['"'] = kQuote;
  return classes;
}

constexpr std::array<uint8_t, 256> kClasses = MakeClasses();

constexpr uint64_t kOnes = 0x0101010101010101;

// Returns a value other than 0 if one of the eight bytes is `c`.
uint64_t HasByte(uint64_t word, char c) {
  const uint64_t difference = word ^ (kOnes * static_cast<uint8_t>(c));
  return (difference - kOnes) & ~difference & (kOnes << 7);
}

const char* FindQuoteOrBackslash(const char* at, const char* end) {
  for (uint64_t word; end - at >= 8; at += 8) {
    std::memcpy(&word, at, 8);
    if ((HasByte(word, '"') | HasByte(word, '\\')) != 0) break;
  }
  while (at < end && *at != '"' && *at != '\\') ++at;
  return at;
}

ByteClass ClassOf(char c) { return static_cast<ByteClass>(kClasses[static_cast<uint8_t>(c)]); }

}  // namespace

void Splitter::WipeGiven() {
  if (given_ != 0) ::explicit_bzero(buffer_.data(), given_);
  given_ = 0;
}

std::span<char> Splitter::Prepare(size_t min_bytes) {
  WipeGiven();
  if (begin_ == end_ && buffer_.size() > kKeepBytes) std::vector<char>().swap(buffer_);
  if (begin_ > 0 && buffer_.size() - end_ < min_bytes) {
    std::copy(buffer_.begin() + begin_, buffer_.begin() + end_, buffer_.begin());
    const size_t left = end_ - begin_;
    ::explicit_bzero(buffer_.data() + std::max(left, begin_), end_ - std::max(left, begin_));
    end_ = left;
    scan_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < min_bytes) {
    buffer_.resize(std::max(end_ + min_bytes, 2 * buffer_.size()));
  }
  return std::span<char>(buffer_).subspan(end_);
}

void Splitter::Commit(size_t count) {
  assert(count <= buffer_.size() - end_);
  end_ += count;
}

void Splitter::Append(std::string_view bytes) {
  if (bytes.empty()) return;
  std::memcpy(Prepare(bytes.size()).data(), bytes.data(), bytes.size());
  Commit(bytes.size());
}

Splitter::Outcome Splitter::Next(std::string_view& value) {
  WipeGiven();
  if (failure_ != Outcome::kNeedMore) return failure_;
  Outcome outcome = Scan();
  if (outcome == Outcome::kValue) {
    given_ = scan_;
    value = std::string_view(buffer_.data() + begin_, scan_ - begin_);
    begin_ = scan_;
  } else {
    failure_ = outcome;
  }
  if (begin_ == end_) begin_ = scan_ = end_ = 0;
  return outcome;
}

Splitter::Outcome Splitter::SkipSpace() {
  while (scan_ < end_ && ClassOf(buffer_[scan_]) == kSpace) ++scan_;
  begin_ = scan_;
  if (scan_ == end_) return Outcome::kNeedMore;
  return ClassOf(buffer_[scan_]) == kOpen ? Outcome::kValue : Outcome::kJunk;
}

// Returns the position after the quote that ends the string, or the end of the received bytes.
void Splitter::ScanString(size_t limit) {
  const char* const end = buffer_.data() + limit;
  const char* at = buffer_.data() + scan_;
  while (at < end && in_string_) {
    if (escaped_) {
      escaped_ = false;
      ++at;
      continue;
    }
    at = FindQuoteOrBackslash(at, end);
    if (at == end) break;
    escaped_ = *at == '\\';
    in_string_ = escaped_;
    ++at;
  }
  scan_ = at - buffer_.data();
}

Splitter::Outcome Splitter::Scan() {
  if (depth_ == 0) {
    Outcome start = SkipSpace();
    if (start != Outcome::kValue) return start;
  }
  // One byte more than the largest value, so that a value that is too large is recognized.
  const size_t limit = std::min(end_, begin_ + max_value_bytes_ + 1);
  while (scan_ < limit) {
    if (in_string_) {
      ScanString(limit);
      continue;
    }
    switch (ClassOf(buffer_[scan_++])) {
      case kQuote:
        in_string_ = true;
        break;
      case kOpen:
        if (++depth_ > kMaxNesting) return Outcome::kJunk;
        break;
      case kClose:
        if (--depth_ == 0) {
          return scan_ - begin_ > max_value_bytes_ ? Outcome::kTooLarge : Outcome::kValue;
        }
        break;
      default:
        break;
    }
  }
  return scan_ - begin_ > max_value_bytes_ ? Outcome::kTooLarge : Outcome::kNeedMore;
}

}  // namespace sma::jsonrpc
