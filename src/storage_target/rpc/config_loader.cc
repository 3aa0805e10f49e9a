// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/config_loader.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sma::storage_target::rpc {
namespace {

/// Returns the text with blanks in place of // and /* */ comments, which SPDK accepts in files. The
/// lines and columns of the text do not change.
std::string WithoutComments(std::string_view text) {
  std::string kept(text);
  auto blank = [&kept](size_t begin, size_t end) {
    std::replace_if(
        kept.begin() + begin, kept.begin() + end, [](char c) { return c != '\n'; }, ' ');
  };
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string_view rest = text.substr(i);
    if (in_string) {
      if (rest[0] == '\\') ++i;
      in_string = rest[0] != '"';
      continue;
    }
    size_t end = i;
    if (rest.starts_with("//")) {
      end = std::min(text.find('\n', i), text.size());
    } else if (rest.starts_with("/*")) {
      const size_t close = text.find("*/", i + 2);
      end = close == std::string_view::npos ? text.size() : close + 2;
    } else {
      in_string = rest[0] == '"';
      continue;
    }
    blank(i, end);
    i = end - 1;
  }
  return kept;
}

/// Returns the error for text that is not JSON, with the position of the first invalid character.
absl::Status SyntaxError(std::string_view text) {
  struct Finder : nlohmann::json_sax<Json> {
    bool null() override { return true; }
    bool boolean(bool /*value*/) override { return true; }
    bool number_integer(int64_t /*value*/) override { return true; }
    bool number_unsigned(uint64_t /*value*/) override { return true; }
    bool number_float(double /*value*/, const std::string& /*text*/) override { return true; }
    bool string(std::string& /*value*/) override { return true; }
    bool binary(binary_t& /*value*/) override { return true; }
    bool start_object(size_t /*size*/) override { return true; }
    bool key(std::string& /*name*/) override { return true; }
    bool end_object() override { return true; }
    bool start_array(size_t /*size*/) override { return true; }
    bool end_array() override { return true; }
    bool parse_error(size_t at, const std::string& /*token*/,
                     const nlohmann::json::exception& /*error*/) override {
      position = at;
      return false;
    }
    size_t position = 0;  // from 1, of the last character read
  };
  Finder finder;
  Json::sax_parse(text.begin(), text.end(), &finder);
  const std::string_view before = text.substr(0, std::max<size_t>(finder.position, 1) - 1);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
  return absl::InvalidArgumentError(
      absl::StrCat("invalid JSON in line ", line, ", column ", column));
}

// The members with which calls name the objects that they create or need.
constexpr const char* kNames[] = {"name",     "ctrlr",    "nqn",      "base_bdev_name",
                                  "key_name", "dev_name", "bdev_name"};

// Returns the names of the objects in the parameters of a call.
std::vector<std::string> NamesIn(const Json& params) {
  std::vector<std::string> names;
  if (!params.is_object()) return names;
  for (const char* member : kNames) {
    auto found = params.find(member);
    if (found != params.end() && found->is_string()) names.push_back(found->get<std::string>());
  }
  auto described = params.find("namespace");
  if (described == params.end()) return names;
  for (std::string& name : NamesIn(*described)) names.push_back(std::move(name));
  return names;
}

// Returns the names and the UUID of the object that a call creates.
std::vector<std::string> CreatedBy(const std::string& method, const Json& params) {
  std::vector<std::string> created;
  if (!params.is_object()) return created;
  const bool creates = absl::StrContains(method, "create") || absl::StrContains(method, "attach");
  for (const char* member : {"name", "ctrlr", "nqn", "uuid"}) {
    auto found = params.find(member);
    if (creates && found != params.end() && found->is_string()) {
      created.push_back(found->get<std::string>());
    }
  }
  return created;
}

}  // namespace

absl::StatusOr<ConfigLoader> ConfigLoader::Read(const RpcServer& server, const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  absl::StatusOr<ConfigLoader> loader = Parse(server, text);
  if (!loader.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", loader.status().message()));
  }
  loader->path_ = absl::StrCat(path, ": ");
  return loader;
}

absl::StatusOr<ConfigLoader> ConfigLoader::Parse(const RpcServer& server, std::string_view text) {
  const std::string plain = WithoutComments(text);
  std::optional<Json> json = jsonrpc::Parse(plain);
  if (!json) return SyntaxError(plain);
  if (!json->is_object() || !json->contains("subsystems") || !(*json)["subsystems"].is_array()) {
    return absl::InvalidArgumentError("\"subsystems\" is missing or not a list");
  }
  ConfigLoader loader(server);
  for (const Json& subsystem : (*json)["subsystems"]) {
    if (absl::Status status = loader.AddSubsystem(subsystem); !status.ok()) return status;
  }
  return loader;
}

absl::Status ConfigLoader::AddSubsystem(const Json& subsystem) {
  if (!subsystem.is_object() || !subsystem.contains("config")) {
    return absl::InvalidArgumentError("a subsystem has no \"config\"");
  }
  auto member = subsystem.find("subsystem");
  const std::string name =
      member != subsystem.end() && member->is_string() ? member->get<std::string>() : "";
  const Json& config = subsystem["config"];
  if (config.is_null()) return absl::OkStatus();
  if (!config.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(InSubsystem(name), "\"config\" is not a list"));
  }
  const std::vector<RpcServer::Subsystem>& known = server_->subsystems();
  const bool is_known = name.empty() || std::any_of(known.begin(), known.end(),
                                                    [&](const auto& s) { return s.name == name; });
  if (!is_known && !config.empty()) {
    spdlog::warn("configuration: subsystem {} is skipped, sma-target does not have it", name);
    return absl::OkStatus();
  }
  size_t entry = 0;
  for (const Json& element : config) {
    const std::string place = absl::StrCat(InSubsystem(name), "entry ", ++entry);
    const Json calls = element.is_array() ? element : Json::array({element});
    for (const Json& call : calls) {
      if (absl::Status status = AddCall(call, place); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

std::string ConfigLoader::InSubsystem(const std::string& name) {
  return name.empty() ? "" : absl::StrCat("subsystem ", name, ", ");
}

absl::Status ConfigLoader::AddCall(const Json& call, const std::string& place) {
  if (!call.is_object() || !call.contains("method") || !call["method"].is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(place, ": a call has no \"method\""));
  }
  calls_.push_back({.method = call["method"].get<std::string>(),
                    .params = call.value("params", Json()),
                    .place = place});
  return absl::OkStatus();
}

void ConfigLoader::Run(std::function<void(absl::Status)> done, OnError on_error) {
  next_ = 0;
  known_ = server_->methods(false);
  callable_ = server_->methods(true);
  done_ = std::move(done);
  on_error_ = std::move(on_error);
  Continue();
}

// Methods that do not exist are reported as errors in the first run.
bool ConfigLoader::BelongsToThisRun(const Call& call) const {
  const auto contains = [&](const std::vector<std::string>& sorted) {
    return std::binary_search(sorted.begin(), sorted.end(), call.method);
  };
  return !call.made && (contains(callable_) || !contains(known_));
}

// Runs the calls in a loop; the reply to an asynchronous call continues it.
void ConfigLoader::Continue() {
  while (next_ < calls_.size()) {
    Call& call = calls_[next_++];
    if (!BelongsToThisRun(call) || IsLeftOut(call)) continue;
    if (!MakeCall(call)) return;
  }
  End(absl::OkStatus());
}

// Returns true if the call needs an object whose call was skipped, in which case this call is also
// skipped.
bool ConfigLoader::IsLeftOut(Call& call) {
  for (const std::string& name : NamesIn(call.params)) {
    if (!left_out_.contains(name)) continue;
    LeaveOut(call, absl::StrCat(name, " was skipped"));
    return true;
  }
  return false;
}

void ConfigLoader::LeaveOut(Call& call, const std::string& why) {
  call.made = true;
  spdlog::warn("configuration: {} is skipped: {}", Name(call), why);
  for (std::string& name : CreatedBy(call.method, call.params)) left_out_.insert(std::move(name));
}

// Returns false if the loop must not continue now.
bool ConfigLoader::MakeCall(Call& call) {
  call.made = true;
  in_call_ = true;
  answered_ = false;
  server_->Call(call.method, call.params, Reply([this, &call](const RpcResult& result) {
                  if (!result.ok() && result.error().is_unsupported) {
                    LeaveOut(call, result.error().message);
                  } else if (!result.ok()) {
                    absl::Status error = Describe(call, result.error());
                    if (!on_error_ || !on_error_(error)) return End(std::move(error));
                  }
                  answered_ = true;
                  if (!in_call_) Continue();
                }));
  in_call_ = false;
  return answered_;
}

// Returns a description of a call: its place in the file, its method and its object.
std::string ConfigLoader::Name(const Call& call) {
  const std::vector<std::string> names = NamesIn(call.params);
  return absl::StrCat(call.place, ": ", call.method, names.empty() ? "" : " of ",
                      names.empty() ? "" : names.front());
}

absl::Status ConfigLoader::Describe(const Call& call, const RpcError& error) const {
  return absl::InvalidArgumentError(
      absl::StrCat(path_, Name(call), ": ", error.message, " (", error.code, ")"));
}

void ConfigLoader::End(absl::Status status) { std::exchange(done_, nullptr)(std::move(status)); }

}  // namespace sma::storage_target::rpc
