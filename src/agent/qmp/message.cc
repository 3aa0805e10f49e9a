// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/message.h"

#include <fmt/format.h>

#include <utility>

#include "absl/strings/cord.h"

namespace sma::qmp {
namespace {

constexpr char kErrorPayload[] = "sma.qmp.error";

const Json* Member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::optional<Greeting> DecodeGreeting(const Json& qmp) {
  const Json* version = Member(qmp, "version");
  const Json* qemu = version == nullptr ? nullptr : Member(*version, "qemu");
  const Json* major = qemu == nullptr ? nullptr : Member(*qemu, "major");
  const Json* minor = qemu == nullptr ? nullptr : Member(*qemu, "minor");
  if (major == nullptr || minor == nullptr) return std::nullopt;
  if (!major->is_number_integer() || !minor->is_number_integer()) return std::nullopt;
  return Greeting{.major_version = major->get<int>(), .minor_version = minor->get<int>()};
}

}  // namespace

std::string TextMember(const Json& object, const char* name) {
  const Json* member = Member(object, name);
  return member != nullptr && member->is_string() ? member->get<std::string>() : std::string();
}

std::string Encode(const Command& command, uint64_t id) {
  Json message{{"execute", command.name}, {"id", id}};
  if (!command.arguments.is_null()) message["arguments"] = command.arguments;
  return message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\r\n";
}

std::optional<Message> Decode(Json value) {
  if (const Json* qmp = Member(value, "QMP")) {
    std::optional<Greeting> greeting = DecodeGreeting(*qmp);
    return greeting ? std::optional<Message>(*greeting) : std::nullopt;
  }
  if (std::string name = TextMember(value, "event"); !name.empty()) {
    const Json* data = Member(value, "data");
    return Event{.name = std::move(name), .data = data == nullptr ? Json::object() : *data};
  }
  const Json* id = Member(value, "id");
  if (id == nullptr || !id->is_number_unsigned()) return std::nullopt;
  Answer answer{.id = id->get<uint64_t>(), .error = std::nullopt, .result = nullptr};
  if (const Json* error = Member(value, "error")) {
    answer.error = Error{.error_class = TextMember(*error, "class"),
                         .description = TextMember(*error, "desc")};
    return answer;
  }
  auto result = value.find("return");
  if (result == value.end()) return std::nullopt;
  answer.result = std::move(*result);
  return answer;
}

absl::Status ErrorStatus(std::string_view command, const Error& error) {
  absl::StatusCode code = absl::StatusCode::kFailedPrecondition;
  if (error.error_class == "DeviceNotFound") code = absl::StatusCode::kNotFound;
  if (error.error_class == "CommandNotFound") code = absl::StatusCode::kUnimplemented;
  absl::Status status(code, fmt::format("QEMU: {}: {}", command, error.description));
  status.SetPayload(kErrorPayload,
                    absl::Cord(fmt::format("{}\n{}", error.error_class, error.description)));
  return status;
}

std::optional<Error> GetError(const absl::Status& status) {
  absl::optional<absl::Cord> payload = status.GetPayload(kErrorPayload);
  if (!payload) return std::nullopt;
  std::string text(*payload);
  const size_t newline = text.find('\n');
  return Error{.error_class = text.substr(0, newline), .description = text.substr(newline + 1)};
}

}  // namespace sma::qmp
