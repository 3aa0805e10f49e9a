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

/// What is wrong with a file, gathered so that all of it is told at once.
class Problems {
 public:
  explicit Problems(std::string file) : file_(std::move(file)) {}

  /// `line` counts from 1; 0 where there is none.
  void Add(int line, std::string_view why);

  /// "FILE:LINE".
  std::string Location(int line) const;

  /// OK without problems, else INVALID_ARGUMENT with "FILE:LINE: why" for each, in the order of the
  /// lines.
  absl::Status ToStatus() const;

 private:
  struct Problem {
    int line;
    std::string why;
  };
  std::string file_;
  std::vector<Problem> problems_;
};

/// A node and where it stands.
struct Value {
  std::string name;  // for messages: "port", "devices[2].name"
  int line = 0;      // from 1
  YAML::Node node;
};

/// Whether a plain scalar is what YAML reads as text (YAML 1.2 §10.3), or a quoted one.
bool IsText(const YAML::Node& scalar);

/// Reads the keys of one mapping, each with the type it must have. What is wrong goes to
/// `problems`, and the caller's default comes back instead. A key without value counts as absent,
/// except where said.
class YamlMap {
 public:
  /// A `value` that is no mapping is a problem; without value it is an empty one.
  YamlMap(const Value& value, Problems& problems);

  int line() const { return value_.line; }
  /// False when the value was something else than a mapping, which is then a problem already.
  bool is_map() const { return is_map_; }

  /// Whether the key is there, with or without value.
  bool Contains(std::string_view key) const;
  /// Whether the key has a value.
  bool Has(std::string_view key) const;
  /// The line of a key; that of the mapping where it is absent.
  int LineOf(std::string_view key) const;

  std::string String(std::string_view key, std::string_view fallback);
  bool Bool(std::string_view key, bool fallback);
  uint64_t Integer(std::string_view key, uint64_t fallback, uint64_t min, uint64_t max);
  /// In seconds, with a fraction if need be.
  std::chrono::milliseconds Seconds(std::string_view key, std::chrono::milliseconds fallback,
                                    std::chrono::milliseconds min, std::chrono::milliseconds max);
  /// The index of the word that the key has.
  size_t OneOf(std::string_view key, size_t fallback,
               std::initializer_list<std::string_view> words);
  /// A value of any type; one whose node is null where the key is absent.
  Value Any(std::string_view key);
  /// The elements of a sequence.
  std::vector<Value> List(std::string_view key);
  std::vector<std::string> StringList(std::string_view key);

  /// The first of two names of one key that is there; both at once are a problem.
  std::string_view Alias(std::string_view name, std::string_view other);

  /// Every key that was not asked for is a problem. Call last.
  void RefuseOthers();

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
