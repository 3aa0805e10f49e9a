// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "jsonrpc/protocol.h"

namespace sma::qmp {

using jsonrpc::Json;

/// A command and its arguments (QEMU "QMP protocol specification", "Issuing Commands").
struct Command {
  std::string name;
  Json arguments;  // an object; null: none
};

/// An event of the VM ("Asynchronous events").
struct Event {
  std::string name;
  Json data;  // an object
};

/// The error of a command ("Commands Responses").
struct Error {
  std::string error_class;  // "GenericError", "DeviceNotFound", ...
  std::string description;
};

/// QEMU's greeting to a client that connects ("Server Greeting").
struct Greeting {
  int major_version = 0;
  int minor_version = 0;
};

/// The answer to the command with this id.
struct Answer {
  uint64_t id = 0;
  std::optional<Error> error;
  Json result;
};

using Message = std::variant<Greeting, Event, Answer>;

/// Returns the line to send to QEMU.
std::string Encode(const Command& command, uint64_t id);

/// Decodes one JSON value of QEMU's stream. Returns nullopt if the value is none of the messages
/// above.
std::optional<Message> Decode(Json value);

/// Returns a string member of `object`, a value of any type from QEMU; an empty string if the
/// member is missing or not a string.
std::string TextMember(const Json& object, const char* name);

/// Returns the status of a command that QEMU answered with `error`; its message contains the
/// command and QEMU's description. NOT_FOUND for DeviceNotFound, UNIMPLEMENTED for CommandNotFound,
/// otherwise FAILED_PRECONDITION.
absl::Status ErrorStatus(std::string_view command, const Error& error);

/// Returns QEMU's error if `status` was created by ErrorStatus.
std::optional<Error> GetError(const absl::Status& status);

}  // namespace sma::qmp
