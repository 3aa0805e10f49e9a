// SPDX-License-Identifier: Apache-2.0

#include "agent/config/devices.h"

#include <algorithm>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "agent/config/yaml_json.h"

namespace sma::config {
namespace {

const DeviceType* FindType(DeviceTypes types, std::string_view name) {
  auto found = std::find_if(types.begin(), types.end(), [&](const DeviceType& type) {
    return type.name == name || (!type.other_name.empty() && type.other_name == name);
  });
  return found == types.end() ? nullptr : &*found;
}

std::string NamesOf(DeviceTypes types) {
  std::string names;
  for (const DeviceType& type : types) names.append(names.empty() ? "" : ", ").append(type.name);
  return names;
}

Device ReadDevice(const Value& value, DeviceTypes types, bool has_plugins, Problems& problems) {
  YamlMap map(value, problems);
  Device device;
  device.name = map.String("name", "");
  const int line = map.LineOf("name");
  device.location = problems.Location(line);
  const Value params = map.Any("params");
  map.RefuseUnknownKeys();
  if (!map.is_map()) return device;

  if (const DeviceType* type = FindType(types, device.name)) {
    device.name = type->name;
    YamlMap keys(params, problems);
    type->check(keys);
    keys.RefuseUnknownKeys();
    if (!problems.ToStatus().ok()) return device;
  } else if (device.name.empty()) {
    problems.Add(line, "a device needs a 'name'");
  } else if (!has_plugins) {
    problems.Add(line, fmt::format("unknown device '{}' (known: {})", device.name, NamesOf(types)));
  }
  device.params = ParamsToJson(params, problems);
  return device;
}

}  // namespace

std::vector<Device> ReadDevices(YamlMap& top, DeviceTypes types, bool has_plugins,
                                Problems& problems) {
  std::vector<Device> devices;
  for (const Value& value : top.List("devices")) {
    Device device = ReadDevice(value, types, has_plugins, problems);
    auto again = std::find_if(devices.begin(), devices.end(),
                              [&](const Device& other) { return other.name == device.name; });
    if (again != devices.end() && !device.name.empty()) {
      problems.Add(
          value.line,
          fmt::format(
              "device '{}' is already defined at {}: only one device per protocol is possible",
              device.name, again->location));
    }
    devices.push_back(std::move(device));
  }
  return devices;
}

}  // namespace sma::config
