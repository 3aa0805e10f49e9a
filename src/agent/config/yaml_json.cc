// SPDX-License-Identifier: Apache-2.0

#include "agent/config/yaml_json.h"

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>

#include "agent/config/number.h"

namespace sma::config {
namespace {

constexpr int kMaxDepth = 32;
constexpr int kMaxNodes = 10'000;

/// Counts the converted nodes, so that the expansion of recursive aliases ends.
class Converter {
 public:
  /// Returns nullopt if the node is nested too deeply or too large.
  std::optional<nlohmann::json> Convert(const YAML::Node& node, int depth) {
    if (depth > kMaxDepth || ++nodes_ > kMaxNodes) return std::nullopt;
    switch (node.Type()) {
      case YAML::NodeType::Map:
        return ConvertMap(node, depth);
      case YAML::NodeType::Sequence:
        return ConvertSequence(node, depth);
      case YAML::NodeType::Scalar:
        return ConvertScalar(node);
      default:
        return nlohmann::json(nullptr);
    }
  }

 private:
  std::optional<nlohmann::json> ConvertMap(const YAML::Node& node, int depth) {
    nlohmann::json object = nlohmann::json::object();
    for (const auto& pair : node) {
      std::optional<nlohmann::json> converted = Convert(pair.second, depth + 1);
      if (!converted || !pair.first.IsScalar()) return std::nullopt;
      object[pair.first.Scalar()] = std::move(*converted);
    }
    return object;
  }

  std::optional<nlohmann::json> ConvertSequence(const YAML::Node& node, int depth) {
    nlohmann::json array = nlohmann::json::array();
    for (const YAML::Node& element : node) {
      std::optional<nlohmann::json> converted = Convert(element, depth + 1);
      if (!converted) return std::nullopt;
      array.push_back(std::move(*converted));
    }
    return array;
  }

  static nlohmann::json ConvertScalar(const YAML::Node& node) {
    const std::string& text = node.Scalar();
    if (IsText(node)) return text;
    if (text.front() == 't' || text.front() == 'T') return true;
    if (text.front() == 'f' || text.front() == 'F') return false;
    if (std::optional<int64_t> integer = ParseNumber<int64_t>(text)) return *integer;
    if (std::optional<double> number = ParseNumber<double>(text)) return *number;
    return text;
  }

  int nodes_ = 0;
};

}  // namespace

nlohmann::json ParamsToJson(const Value& value, Problems& problems) {
  if (!value.node.IsDefined() || value.node.IsNull()) return nlohmann::json::object();
  std::optional<nlohmann::json> params;
  if (value.node.IsMap()) params = Converter().Convert(value.node, 0);
  if (params) return std::move(*params);
  problems.Add(value.line, fmt::format("'{}' must be a mapping with strings as keys, of at most {} "
                                       "values, nested at most {} deep",
                                       value.name, kMaxNodes, kMaxDepth));
  return nlohmann::json::object();
}

}  // namespace sma::config
