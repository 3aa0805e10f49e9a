// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <yaml-cpp/yaml.h>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace sma::config {

/// The errors in a file, collected so that all of them are reported together.
class Problems {
 public:
  explicit Problems(std::string file) : file_(std::move(file)) {}

  /// `line` counts from 1; 0 if it is unknown.
  void Add(int line, std::string_view why);

  /// Returns "FILE:LINE".
  std::string Location(int line) const;

  /// Returns OK if there are no problems, otherwise INVALID_ARGUMENT with "FILE:LINE: why" for
  /// each, sorted by line.
  absl::Status ToStatus() const;

 private:
  struct Problem {
    int line;
    std::string why;
  };
  std::string file_;
  std::vector<Problem> problems_;
};

/// A node, with its name and line for messages.
struct Value {
  std::string name;  // e.g. "port", "devices[2].name"
  int line = 0;      // counts from 1
  YAML::Node node;
};

/// Returns true if a scalar is quoted, or is plain and a string according to YAML 1.2 §10.3.
bool IsText(const YAML::Node& scalar);

/// Reads the keys of one mapping, each with its required type. Errors are added to `problems`, and
/// the caller's default is returned instead. A key without a value is treated as absent, unless
/// stated otherwise.
class YamlMap {
 public:
  /// Adds a problem if `value` is not a mapping. A missing value counts as an empty mapping.
  YamlMap(const Value& value, Problems& problems);

  int line() const { return value_.line; }
  /// Receives all errors, including those of nested maps.
  Problems& problems() { return problems_; }
  /// Adds an error at the line of `key`.
  void AddProblem(std::string_view key, std::string_view why) { problems_.Add(LineOf(key), why); }
  /// Returns false if the value was not a mapping; the problem has been added already.
  bool is_map() const { return is_map_; }

  /// Returns true if the key exists, with or without a value.
  bool Contains(std::string_view key) const;
  /// Returns true if the key has a value.
  bool Has(std::string_view key) const;
  /// Returns the line of a key, or of the mapping if the key is absent.
  int LineOf(std::string_view key) const;

  std::string String(std::string_view key, std::string_view fallback);
  bool Bool(std::string_view key, bool fallback);
  uint64_t Integer(std::string_view key, uint64_t fallback, uint64_t min, uint64_t max);
  /// Reads a number of seconds, optionally with a fraction.
  std::chrono::milliseconds Seconds(std::string_view key, std::chrono::milliseconds fallback,
                                    std::chrono::milliseconds min, std::chrono::milliseconds max);
  /// Returns the index of the key's value in `words`.
  size_t OneOf(std::string_view key, size_t fallback,
               std::initializer_list<std::string_view> words);
  /// Returns a value of any type; its node is null if the key is absent.
  Value Any(std::string_view key);
  /// Returns the elements of a sequence.
  std::vector<Value> List(std::string_view key);
  std::vector<std::string> StringList(std::string_view key);

  /// Returns the spelling of a key that is present; adds a problem if both spellings are present.
  std::string_view Alias(std::string_view name, std::string_view other);

  /// Adds a problem for every key that was not read. Call it last.
  void RefuseUnknownKeys();

 private:
  struct Entry {
    std::string key;
    Value value;
  };
  const Entry* Find(std::string_view key);
  bool AsString(const Value& value, std::string& out);
  void AddWrongType(const Value& value, std::string_view expected);

  Value value_;
  Problems& problems_;
  bool is_map_ = true;
  std::vector<Entry> entries_;
  std::vector<std::string> known_;
};

}  // namespace sma::config
