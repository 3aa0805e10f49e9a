#include "agent/volume/shared_names.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_split.h"

namespace sma::volume {
namespace {

// One line for each name, with what it is the name of before it. NQNs hold no control characters.
constexpr std::string_view kService = "discovery ";
constexpr std::string_view kController = "controller ";

}  // namespace

SharedNames SharedNames::Parse(const std::string& text) {
  SharedNames names;
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  for (const std::string& line : lines) {
    if (line.starts_with(kService)) {
      names.services.push_back(line.substr(kService.size()));
    } else if (line.starts_with(kController)) {
      names.controllers.push_back(line.substr(kController.size()));
    }
  }
  return names;
}

std::string SharedNames::ToText() const {
  std::string text;
  for (const std::string& name : services) text.append(kService).append(name).append("\n");
  for (const std::string& name : controllers) text.append(kController).append(name).append("\n");
  return text;
}

void SharedNames::AddService(std::string name) {
  if (std::find(services.begin(), services.end(), name) == services.end()) {
    services.push_back(std::move(name));
  }
}

}  // namespace sma::volume
