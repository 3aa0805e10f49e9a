// SPDX-License-Identifier: Apache-2.0

#include "agent/config/yaml_map.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "agent/config/number.h"

namespace sma::config {
namespace {

constexpr std::string_view kQuotedTag = "!";
constexpr std::string_view kPlainTag = "?";
constexpr std::string_view kStringTag = "tag:yaml.org,2002:str";

bool IsAnyOf(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

bool IsTrue(std::string_view text) { return IsAnyOf(text, {"true", "True", "TRUE"}); }
bool IsFalse(std::string_view text) { return IsAnyOf(text, {"false", "False", "FALSE"}); }

std::string Describe(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Map:
      return "a mapping";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Scalar:
      return fmt::format("{}'{}'", node.Tag() == kPlainTag ? "" : "the text ",
                         node.Scalar().substr(0, 64));
    default:
      return "nothing";
  }
}

int LineOfNode(const YAML::Node& node) { return node.Mark().line + 1; }

}  // namespace

void Problems::Add(int line, std::string_view why) {
  problems_.push_back({line, std::string(why)});
}

std::string Problems::Location(int line) const {
  return line > 0 ? fmt::format("{}:{}", file_, line) : file_;
}

absl::Status Problems::ToStatus() const {
  if (problems_.empty()) return absl::OkStatus();
  std::vector<Problem> sorted = problems_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Problem& a, const Problem& b) { return a.line < b.line; });
  std::vector<std::string> lines;
  for (const Problem& problem : sorted) {
    lines.push_back(fmt::format("{}: {}", Location(problem.line), problem.why));
  }
  return absl::InvalidArgumentError(fmt::format("{}", fmt::join(lines, "\n")));
}

bool IsText(const YAML::Node& scalar) {
  if (scalar.Tag() == kQuotedTag || scalar.Tag() == kStringTag) return true;
  const std::string& text = scalar.Scalar();
  if (IsTrue(text) || IsFalse(text)) return false;
  std::optional<double> number = ParseNumber<double>(text);
  return !number || !std::isfinite(*number);  // "inf" and "nan" are text in YAML
}

YamlMap::YamlMap(const Value& value, Problems& problems) : value_(value), problems_(problems) {
  if (!value_.node.IsDefined() || value_.node.IsNull()) return;
  if (!value_.node.IsMap()) {
    is_map_ = false;
    AddWrongType(value_, "a mapping");
    return;
  }
  for (const auto& pair : value_.node) {
    const YAML::Node& key = pair.first;
    if (!key.IsScalar()) {
      problems_.Add(LineOfNode(key), "a key must be a string");
      continue;
    }
    const std::string& name = key.Scalar();
    bool again = std::any_of(entries_.begin(), entries_.end(),
                             [&](const Entry& entry) { return entry.key == name; });
    if (again) {
      problems_.Add(LineOfNode(key), fmt::format("'{}' is specified twice", name));
      continue;
    }
    std::string full = value_.name.empty() ? name : fmt::format("{}.{}", value_.name, name);
    entries_.push_back({name, {std::move(full), LineOfNode(key), pair.second}});
  }
}

const YamlMap::Entry* YamlMap::Find(std::string_view key) {
  known_.emplace_back(key);
  for (const Entry& entry : entries_) {
    if (entry.key == key && !entry.value.node.IsNull()) return &entry;
  }
  return nullptr;
}

bool YamlMap::Contains(std::string_view key) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.key == key; });
}

bool YamlMap::Has(std::string_view key) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.key == key && !entry.value.node.IsNull();
  });
}

int YamlMap::LineOf(std::string_view key) const {
  for (const Entry& entry : entries_) {
    if (entry.key == key) return entry.value.line;
  }
  return value_.line;
}

void YamlMap::AddWrongType(const Value& value, std::string_view expected) {
  std::string what = value.name.empty() ? "the file" : fmt::format("'{}'", value.name);
  problems_.Add(value.line,
                fmt::format("{} must be {}, not {}", what, expected, Describe(value.node)));
}

bool YamlMap::AsString(const Value& value, std::string& out) {
  if (!value.node.IsScalar() || !IsText(value.node)) {
    AddWrongType(value, "text (in quotes where it looks like a number)");
    return false;
  }
  out = value.node.Scalar();
  if (out.find('\0') != std::string::npos) {
    problems_.Add(value.line, fmt::format("'{}' contains a NUL byte", value.name));
    return false;
  }
  return true;
}

std::string YamlMap::String(std::string_view key, std::string_view fallback) {
  std::string text;
  const Entry* entry = Find(key);
  return entry != nullptr && AsString(entry->value, text) ? text : std::string(fallback);
}

bool YamlMap::Bool(std::string_view key, bool fallback) {
  const Entry* entry = Find(key);
  if (entry == nullptr) return fallback;
  const YAML::Node& node = entry->value.node;
  bool plain = node.IsScalar() && node.Tag() == kPlainTag;
  if (plain && IsTrue(node.Scalar())) return true;
  if (plain && IsFalse(node.Scalar())) return false;
  AddWrongType(entry->value, "true or false");
  return fallback;
}

uint64_t YamlMap::Integer(std::string_view key, uint64_t fallback, uint64_t min, uint64_t max) {
  const Entry* entry = Find(key);
  if (entry == nullptr) return fallback;
  const YAML::Node& node = entry->value.node;
  std::optional<uint64_t> number;
  if (node.IsScalar() && node.Tag() == kPlainTag) number = ParseNumber<uint64_t>(node.Scalar());
  if (!number || *number < min || *number > max) {
    AddWrongType(entry->value, fmt::format("a whole number from {} to {}", min, max));
    return fallback;
  }
  return *number;
}

std::chrono::milliseconds YamlMap::Seconds(std::string_view key, std::chrono::milliseconds fallback,
                                           std::chrono::milliseconds min,
                                           std::chrono::milliseconds max) {
  const Entry* entry = Find(key);
  if (entry == nullptr) return fallback;
  const YAML::Node& node = entry->value.node;
  std::optional<double> seconds;
  if (node.IsScalar() && node.Tag() == kPlainTag) seconds = ParseNumber<double>(node.Scalar());
  double min_seconds = static_cast<double>(min.count()) / 1000;
  double max_seconds = static_cast<double>(max.count()) / 1000;
  // Not (a < min || a > max), so that NaN is refused.
  if (!seconds || !(*seconds >= min_seconds && *seconds <= max_seconds)) {
    AddWrongType(entry->value,
                 fmt::format("a number of seconds from {} to {}", min_seconds, max_seconds));
    return fallback;
  }
  return std::chrono::milliseconds(std::llround(*seconds * 1000));
}

size_t YamlMap::OneOf(std::string_view key, size_t fallback,
                      std::initializer_list<std::string_view> words) {
  const Entry* entry = Find(key);
  if (entry == nullptr) return fallback;
  if (entry->value.node.IsScalar()) {
    auto word = std::find(words.begin(), words.end(), entry->value.node.Scalar());
    if (word != words.end()) return static_cast<size_t>(word - words.begin());
  }
  AddWrongType(entry->value, fmt::format("one of: {}", fmt::join(words, ", ")));
  return fallback;
}

Value YamlMap::Any(std::string_view key) {
  const Entry* entry = Find(key);
  if (entry != nullptr) return entry->value;
  return {std::string(key), LineOf(key), YAML::Node(YAML::NodeType::Null)};
}

std::vector<Value> YamlMap::List(std::string_view key) {
  std::vector<Value> values;
  const Entry* entry = Find(key);
  if (entry == nullptr) return values;
  if (!entry->value.node.IsSequence()) {
    AddWrongType(entry->value, "a list");
    return values;
  }
  for (const YAML::Node& node : entry->value.node) {
    std::string name = fmt::format("{}[{}]", entry->value.name, values.size());
    // yaml-cpp sets no mark for an empty element.
    int line = node.Mark().is_null() ? entry->value.line : LineOfNode(node);
    values.push_back({std::move(name), line, node});
  }
  return values;
}

std::vector<std::string> YamlMap::StringList(std::string_view key) {
  std::vector<std::string> strings;
  for (const Value& value : List(key)) {
    std::string text;
    if (AsString(value, text)) strings.push_back(std::move(text));
  }
  return strings;
}

std::string_view YamlMap::Alias(std::string_view name, std::string_view other) {
  known_.emplace_back(name);
  known_.emplace_back(other);
  if (!Has(other)) return name;
  if (Has(name)) {
    problems_.Add(
        LineOf(other),
        fmt::format("'{}' and '{}' are equivalent: specify only one of them", name, other));
  }
  return other;
}

void YamlMap::RefuseUnknownKeys() {
  std::sort(known_.begin(), known_.end());
  known_.erase(std::unique(known_.begin(), known_.end()), known_.end());
  for (const Entry& entry : entries_) {
    if (std::binary_search(known_.begin(), known_.end(), entry.key)) continue;
    std::string known = known_.empty() ? "no keys are allowed here"
                                       : fmt::format("known: {}", fmt::join(known_, ", "));
    problems_.Add(entry.value.line, fmt::format("unknown key '{}' ({})", entry.value.name, known));
  }
}

}  // namespace sma::config
