#pragma once

#include <string>
#include <vector>

namespace sma::volume {

/// What one volume uses on the target together with others: record::Volume::connection in parts.
struct SharedNames {
  std::vector<std::string> services;     // discovery services
  std::vector<std::string> controllers;  // of remote subsystems

  /// From what ToText gave; lines of another form are left out.
  static SharedNames Parse(const std::string& text);
  std::string ToText() const;

  void AddService(std::string name);  // once
};

}  // namespace sma::volume
