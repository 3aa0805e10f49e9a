// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/hot_plug.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "jsonrpc/error.h"

namespace sma::qmp {
namespace {

using base::Context;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr char kDeleted[] = "DEVICE_DELETED";
constexpr char kGuestError[] = "DEVICE_UNPLUG_GUEST_ERROR";

// The unplug request is repeated at this interval, because a guest that is still booting misses it.
constexpr seconds kUnplugRepeatPeriod{2};
// The pause before retrying to remove a character device, which remains in use for a short time
// after its device has been removed.
constexpr milliseconds kChardevRetryPeriod{20};
constexpr seconds kChardevBusyTime{2};
// The time limit for rolling back a call, independent of the call's context.
constexpr seconds kUndoTime{5};
constexpr int kReconnectSeconds = 1;

Command ChardevAdd(const PciDevice& device, const Greeting& greeting) {
  Json data{{"addr", {{"type", "unix"}, {"data", {{"path", device.chardev_path}}}}},
            {"server", false}};
  // QEMU 9.2 replaced "reconnect" by "reconnect-ms".
  const bool in_milliseconds =
      std::pair(greeting.major_version, greeting.minor_version) >= std::pair(9, 2);
  if (in_milliseconds) {
    data["reconnect-ms"] = kReconnectSeconds * 1000;
  } else {
    data["reconnect"] = kReconnectSeconds;
  }
  return {"chardev-add",
          {{"id", device.id}, {"backend", {{"type", "socket"}, {"data", std::move(data)}}}}};
}

Command DeviceAdd(const PciDevice& device) {
  Json arguments = device.properties;
  arguments["driver"] = device.driver;
  arguments["id"] = device.id;
  arguments["bus"] = device.bus;
  arguments["addr"] = fmt::format("{:#x}", device.slot);
  if (!device.chardev_path.empty()) arguments["chardev"] = device.id;
  return {"device_add", std::move(arguments)};
}

Command ChardevRemove(const std::string& id) { return {"chardev-remove", {{"id", id}}}; }

bool IsAnswer(const absl::Status& status) { return GetError(status).has_value(); }

// Returns true for temporary refusals of device_del: the guest has already been asked to
// release the device, or it has not yet powered on the slot of a PCIe port (native hot-plug, QEMU's
// hw/pci/pcie.c).
bool IsTemporary(const absl::Status& status) {
  std::optional<Error> error = GetError(status);
  if (!error) return false;
  const auto says = [&error](const char* words) {
    return error->description.find(words) != std::string::npos;
  };
  return says("process of unplug") || says("guest is busy") || says("power indicator blinking");
}

// Returns OK once the character device, which leads to the socket of a device, no longer exists.
absl::Status RemoveChardev(Client& client, const Context& context, const std::string& id) {
  const auto until = steady_clock::now() + kChardevBusyTime;
  while (true) {
    const std::vector<Command> commands{ChardevRemove(id), {"query-chardev", nullptr}};
    const auto results = client.ExecuteMany(context, commands);
    if (results[0].ok()) return absl::OkStatus();
    if (!IsAnswer(results[0].status())) return results[0].status();
    if (!results[1].ok()) return results[1].status();
    const bool is_there = std::any_of(results[1]->begin(), results[1]->end(), [&](const Json& it) {
      return TextMember(it, "label") == id;
    });
    if (!is_there) return absl::OkStatus();
    if (steady_clock::now() >= until) return results[0].status();
    absl::Status ended = context.SleepUntil(steady_clock::now() + kChardevRetryPeriod);
    if (!ended.ok()) return ended;
  }
}

absl::Status NotReleased(const std::string& id, const absl::Status& ended) {
  return absl::Status(ended.code(), fmt::format("the guest has not released device {} yet", id));
}

// Waits for the guest's response to an unplug request until `context` ends. Returns true if the
// device has been removed, false if the request should be repeated.
absl::StatusOr<bool> AwaitRelease(Client::EventWatch& watch, const Context& context,
                                  const std::string& id) {
  while (true) {
    absl::StatusOr<Event> event = watch.Next(context);
    if (absl::IsCancelled(event.status())) return event.status();
    if (!event.ok()) return false;
    if (TextMember(event->data, "device") != id) continue;
    if (event->name == kDeleted) return true;
    return absl::FailedPreconditionError(fmt::format("the guest refuses to release device {}", id));
  }
}

absl::Status UnplugDevice(Client& client, const Context& context, const std::string& id) {
  while (true) {
    if (absl::Status ended = context.status(); !ended.ok()) return NotReleased(id, ended);
    Client::EventWatch watch(client, {kDeleted, kGuestError});
    const absl::Status status = client.Execute(context, {"device_del", {{"id", id}}}).status();
    if (absl::IsNotFound(status)) return absl::OkStatus();
    if (absl::IsDeadlineExceeded(status)) return NotReleased(id, status);
    if (!status.ok() && !IsTemporary(status)) return status;
    absl::StatusOr<bool> gone =
        AwaitRelease(watch, context.Child(steady_clock::now() + kUnplugRepeatPeriod), id);
    if (!gone.ok()) return gone.status();
    if (*gone) return absl::OkStatus();
  }
}

absl::Status OtherDevice(const std::string& id) {
  return absl::AlreadyExistsError(
      fmt::format("the VM has a device {} already, which another client plugged", id));
}

// Returns OK if the VM has a character device that leads to the device's socket, after chardev-add
// was refused with `why`.
absl::Status CheckChardev(Client& client, const Context& context, const PciDevice& device,
                          const absl::Status& why) {
  absl::StatusOr<Inventory> inventory = GetInventory(client, context);
  if (!inventory.ok()) return inventory.status();
  auto found = inventory->chardevs.find(device.id);
  if (found == inventory->chardevs.end()) return why;
  if (found->second == device.chardev_path) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("the VM has a character device {} already, which does not lead to {}", device.id,
                  device.chardev_path));
}

// Cleans up after a command failed with `why`: removes the character device unless the device
// exists. Returns OK if QEMU refused but has the device; otherwise `why`, marked by
// WithFateUnknown if the outcome is uncertain.
absl::Status UndoPlug(Client& client, const PciDevice& device, bool chardev_added,
                      absl::Status why) {
  const Context context = Context::WithTimeout(kUndoTime);
  absl::StatusOr<Inventory> inventory = GetInventory(client, context);
  if (!inventory.ok()) return jsonrpc::WithFateUnknown(std::move(why));
  const bool refused = IsAnswer(why);
  const Presence presence = FindDevice(*inventory, device);
  if (presence == Presence::kSame) {
    return refused ? absl::OkStatus() : jsonrpc::WithFateUnknown(std::move(why));
  }
  if ((chardev_added || !refused) && HasChardevOf(*inventory, device)) {
    absl::Status removed = RemoveChardev(client, context, device.id);
    if (!removed.ok()) return jsonrpc::WithFateUnknown(std::move(why));
  }
  if (refused && presence == Presence::kOther) return OtherDevice(device.id);
  return absl::Status(why.code(), why.message());
}

// Returns true if the character device was added, false if it was there already.
absl::StatusOr<bool> AddChardev(Client& client, const Context& context, const PciDevice& device,
                                const Greeting& greeting) {
  absl::Status why = client.Execute(context, ChardevAdd(device, greeting)).status();
  if (why.ok()) return true;
  if (!IsAnswer(why)) {
    return jsonrpc::IsFateUnknown(why) ? UndoPlug(client, device, false, std::move(why)) : why;
  }
  if (absl::Status status = CheckChardev(client, context, device, why); !status.ok()) return status;
  return false;
}

}  // namespace

absl::StatusOr<std::set<std::string>> ListParts(Client& client, const Context& context,
                                                const std::string& id) {
  absl::StatusOr<Json> list =
      client.Execute(context, {"qom-list", {{"path", fmt::format("{}/{}", kDevicesPath, id)}}});
  if (!list.ok()) return list.status();
  std::set<std::string> parts;
  for (const Json& part : *list) parts.insert(TextMember(part, "name"));
  return parts;
}

// A character device of another client must not be used, so the device is added only when its own
// one is known to be there.
absl::Status Plug(Client& client, const Context& context, const PciDevice& device,
                  Plugged* plugged) {
  absl::StatusOr<Greeting> greeting = client.WaitConnected(context);
  if (!greeting.ok()) return greeting.status();
  bool chardev_added = false;
  if (!device.chardev_path.empty()) {
    absl::StatusOr<bool> added = AddChardev(client, context, device, *greeting);
    if (!added.ok()) return added.status();
    chardev_added = *added;
  }
  const std::vector<Command> commands{DeviceAdd(device), {"query-uuid", nullptr}};
  const auto results = client.ExecuteMany(context, commands);
  absl::Status why = results[0].status();
  const bool is_done = why.ok();
  if (!is_done) {
    const bool may_be_done = IsAnswer(why) || jsonrpc::IsFateUnknown(why) || chardev_added;
    absl::Status status =
        may_be_done ? UndoPlug(client, device, chardev_added, std::move(why)) : std::move(why);
    if (!status.ok()) return status;
  }
  if (plugged != nullptr) *plugged = {.was_there = !is_done, .vm_uuid = VmUuidOf(results[1])};
  return absl::OkStatus();
}

absl::Status Unplug(Client& client, const Context& context, const PciDevice& device,
                    bool* was_there) {
  absl::StatusOr<Inventory> inventory = GetInventory(client, context);
  if (!inventory.ok()) return inventory.status();
  const Presence presence = FindDevice(*inventory, device);
  if (was_there != nullptr) *was_there = presence == Presence::kSame;
  if (presence == Presence::kOther) {
    spdlog::warn("{}: the VM at {} has another client's device with this id, which stays",
                 device.id, client.address().ToString());
  }
  if (presence == Presence::kSame) {
    absl::Status status = UnplugDevice(client, context, device.id);
    if (!status.ok()) return status;
  } else if (!HasChardevOf(*inventory, device)) {
    return absl::OkStatus();
  }
  return device.chardev_path.empty() ? absl::OkStatus() : RemoveChardev(client, context, device.id);
}

}  // namespace sma::qmp
