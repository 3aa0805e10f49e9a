// SPDX-License-Identifier: Apache-2.0

// The VM behind the fake QMP server.

#include <utility>

#include "agent/qmp/testing/fake_qemu.h"

namespace sma::qmp {

using base::MutexLock;

namespace {

constexpr const char* kBuses[] = {"bus0", "bus1"};

Json Success(Json result = Json::object()) { return {{"return", std::move(result)}}; }

Json NamedEvent(const char* name, Json data) {
  return {{"event", name},
          {"data", std::move(data)},
          {"timestamp", {{"seconds", 1}, {"microseconds", 2}}}};
}

// Returns a bridge with its devices and the number of the bus behind it, as query-pci lists it.
Json Bridge(const char* id, int number, Json devices) {
  return {{"qdev_id", id},
          {"slot", number},
          {"pci_bridge", {{"bus", {{"number", number}}}, {"devices", std::move(devices)}}}};
}

}  // namespace

Json FakeQemu::Failure(const std::string& description, const char* error_class) {
  return {{"error", {{"class", error_class}, {"desc", description}}}};
}

FakeQemu::Reply FakeQemu::Execute(const std::string& name, const Json& arguments) {
  if (auto refusal = refused_.find(name); refusal != refused_.end()) {
    return {.answer = Failure(refusal->second)};
  }
  if (name == "chardev-add") return AddChardev(arguments);
  if (name == "chardev-remove") return RemoveChardev(arguments);
  if (name == "device_add") return AddDevice(arguments);
  if (name == "device_del") return RemoveDevice(arguments);
  if (name == "query-pci") return QueryPci();
  Json list = Json::array();
  if (name == "query-chardev") {
    for (const auto& [id, add] : chardevs_) {
      const Json& address = add["backend"]["data"]["addr"];
      const std::string path =
          address.is_object() ? address["data"]["path"].get<std::string>() : std::string();
      // QEMU does not show the path of a connected client.
      list.push_back(
          {{"label", id}, {"filename", connected_ ? "unix:" : "disconnected:unix:" + path}});
    }
    return {.answer = Success(list)};
  }
  if (name == "qom-list") return ListObject(arguments["path"]);
  if (name == "qom-get") return GetProperty(arguments["path"], arguments["property"]);
  if (name == "query-uuid") return {.answer = Success({{"UUID", uuid_}})};
  return {.answer = Failure("The command " + name + " has not been found", "CommandNotFound")};
}

FakeQemu::Reply FakeQemu::ListObject(const std::string& path) {
  const std::string container = "/machine/peripheral";
  Json list = Json::array({{{"name", "type"}, {"type", "string"}}});
  std::vector<std::string> names = device_parts_;
  if (path == container) {
    names.clear();
    for (const auto& [id, add] : devices_) {
      list.push_back({{"name", id}, {"type", "child<" + add.value("driver", "fake") + ">"}});
    }
  } else if (!path.starts_with(container + "/") ||
             !devices_.contains(path.substr(container.size() + 1))) {
    return {.answer = Failure("Device '" + path + "' not found", "DeviceNotFound")};
  }
  for (const std::string& name : names) list.push_back({{"name", name}, {"type", "child<fake>"}});
  return {.answer = Success(list)};
}

// Knows the socket of a character device, and the character device of a device.
FakeQemu::Reply FakeQemu::GetProperty(const std::string& path, const std::string& property) {
  const std::string id = path.substr(path.rfind('/') + 1);
  if (path == "/chardevs/" + id && property == "addr" && chardevs_.contains(id)) {
    const Json& address = chardevs_[id]["backend"]["data"]["addr"];
    if (address.is_object()) {
      return {.answer = Success({{"type", "unix"}, {"path", address["data"]["path"]}})};
    }
  }
  if (path == "/machine/peripheral/" + id && property == "chardev" && devices_.contains(id)) {
    return {.answer = Success(devices_[id].value("chardev", ""))};
  }
  return {.answer = Failure("Property '" + path + "." + property + "' not found")};
}

FakeQemu::Reply FakeQemu::AddChardev(const Json& arguments) {
  const std::string id = arguments["id"];
  if (chardevs_.contains(id)) {
    return {.answer = Failure("Chardev with id '" + id + "' already exists")};
  }
  chardevs_[id] = arguments;
  return {.answer = Success()};
}

FakeQemu::Reply FakeQemu::RemoveChardev(const Json& arguments) {
  const std::string id = arguments["id"];
  for (const auto& [device, add] : devices_) {
    if (add.value("chardev", "") == id) return {.answer = Failure("Chardev '" + id + "' is busy")};
  }
  if (chardevs_.erase(id) == 0) return {.answer = Failure("Chardev '" + id + "' not found")};
  return {.answer = Success()};
}

FakeQemu::Reply FakeQemu::AddDevice(const Json& arguments) {
  const std::string id = arguments["id"];
  const std::string bus = arguments["bus"];
  if (devices_.contains(id)) return {.answer = Failure("Duplicate device ID '" + id + "'")};
  if (bus != kBuses[0] && bus != kBuses[1]) {
    return {.answer = Failure("Bus '" + bus + "' not found")};
  }
  for (const auto& [other, add] : devices_) {
    if (add["bus"] == bus && add["addr"] == arguments["addr"]) {
      return {.answer = Failure("PCI: slot is in use by " + other)};
    }
  }
  if (arguments.contains("chardev") && !chardevs_.contains(arguments["chardev"])) {
    return {.answer = Failure("Property 'chardev' can't find the value")};
  }
  devices_[id] = arguments;
  return {.answer = Success()};
}

FakeQemu::Reply FakeQemu::RemoveDevice(const Json& arguments) {
  const std::string id = arguments["id"];
  if (!devices_.contains(id)) {
    return {.answer = Failure("Device '" + id + "' not found", "DeviceNotFound")};
  }
  if (guest_ == Guest::kRefuses) {
    return {.answer = Success(),
            .after = Json::array({NamedEvent("DEVICE_UNPLUG_GUEST_ERROR", {{"device", id}})})};
  }
  if (unplugging_.contains(id)) {
    return {.answer = Failure("Device " + id + " is already in the process of unplug")};
  }
  unplugging_.insert(id);
  if (guest_ == Guest::kIgnores) return {.answer = Success()};
  Json events = Release(id);
  if (guest_ == Guest::kReleases) return {.answer = Success(), .after = std::move(events)};
  return {.before = std::move(events), .answer = Success()};
}

Json FakeQemu::Release(const std::string& id) {
  devices_.erase(id);
  unplugging_.erase(id);
  const std::string path = "/machine/peripheral/" + id;
  // A device with a backend sends one event for itself and one for the backend, which has no id.
  return Json::array({NamedEvent("DEVICE_DELETED", {{"path", path + "/virtio-backend"}}),
                      NamedEvent("DEVICE_DELETED", {{"device", id}, {"path", path}})});
}

void FakeQemu::ReleaseAll() {
  MutexLock lock(mutex_);
  for (const std::string& id : std::set(unplugging_)) {
    for (const Json& event : Release(id)) Send(event);
  }
}

Json FakeQemu::DevicesOn(std::string_view bus) {
  Json list = Json::array();
  if (!booted_) return list;
  for (const auto& [id, add] : devices_) {
    if (add["bus"] == bus) list.push_back({{"qdev_id", id}, {"slot", 1}});
  }
  return list;
}

FakeQemu::Reply FakeQemu::QueryPci() {
  Json bus1 = Bridge(kBuses[1], 3, DevicesOn(kBuses[1]));
  Json devices = Json::array({Bridge(kBuses[0], 1, DevicesOn(kBuses[0])),
                              Bridge("above", 2, Json::array({std::move(bus1)}))});
  return {.answer = Success(Json::array({{{"bus", 0}, {"devices", std::move(devices)}}}))};
}

}  // namespace sma::qmp
