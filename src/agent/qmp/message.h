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

/// Something that happened in the machine ("Asynchronous events").
struct Event {
  std::string name;
  Json data;  // an object
};

/// The error of a command as QEMU tells it ("Commands Responses").
struct Error {
  std::string error_class;  // "GenericError", "DeviceNotFound", ...
  std::string description;
};

/// What QEMU says of itself when a client connects ("Server Greeting").
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

/// One line to QEMU.
std::string Encode(const Command& command, uint64_t id);

/// One JSON value of QEMU's stream; nullopt: it is none of the messages above.
std::optional<Message> Decode(Json value);

/// The text of a member of what QEMU sent, which may be of any type; empty where it is no text or
/// is not there.
std::string TextMember(const Json& object, const char* name);

/// The status of a command that QEMU answered with `error`. Its text holds the command and QEMU's
/// words. NOT_FOUND for DeviceNotFound, UNIMPLEMENTED for CommandNotFound, else
/// FAILED_PRECONDITION.
absl::Status ErrorStatus(std::string_view command, const Error& error);

/// QEMU's own error when `status` was made by ErrorStatus.
std::optional<Error> GetError(const absl::Status& status);

}  // namespace sma::qmp
