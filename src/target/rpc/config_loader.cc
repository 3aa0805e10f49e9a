#include "target/rpc/config_loader.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sma::target::rpc {
namespace {

/// The text with everything from // or /* on taken out where it is a comment: SPDK takes such
/// files.
std::string WithoutComments(std::string_view text) {
  std::string kept;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string_view rest = text.substr(i);
    if (in_string) {
      if (rest[0] == '\\' && rest.size() > 1) kept += text[i++];
      in_string = rest[0] != '"';
    } else if (rest.starts_with("//")) {
      i = std::min(text.find('\n', i), text.size()) - 1;
      continue;
    } else if (rest.starts_with("/*")) {
      size_t end = text.find("*/", i + 2);
      i = end == std::string_view::npos ? text.size() : end + 1;
      continue;
    } else {
      in_string = rest[0] == '"';
    }
    kept += text[i];
  }
  return kept;
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
  return loader;
}

absl::StatusOr<ConfigLoader> ConfigLoader::Parse(const RpcServer& server, std::string_view text) {
  std::optional<Json> json = jsonrpc::Parse(WithoutComments(text));
  if (!json) return absl::InvalidArgumentError("not a JSON text");
  if (!json->is_object() || !json->contains("subsystems") || !(*json)["subsystems"].is_array()) {
    return absl::InvalidArgumentError("no list \"subsystems\"");
  }
  ConfigLoader loader(server);
  for (const Json& subsystem : (*json)["subsystems"]) {
    if (absl::Status status = loader.AddSubsystem(subsystem); !status.ok()) return status;
  }
  return loader;
}

absl::Status ConfigLoader::AddSubsystem(const Json& subsystem) {
  if (!subsystem.is_object() || !subsystem.contains("config")) {
    return absl::InvalidArgumentError("a subsystem without \"config\"");
  }
  const Json& config = subsystem["config"];
  if (config.is_null()) return absl::OkStatus();
  if (!config.is_array()) return absl::InvalidArgumentError("\"config\" is no list");
  for (const Json& element : config) {
    if (!element.is_array()) {
      if (absl::Status status = AddCall(element); !status.ok()) return status;
      continue;
    }
    for (const Json& call : element) {
      if (absl::Status status = AddCall(call); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status ConfigLoader::AddCall(const Json& call) {
  if (!call.is_object() || !call.contains("method") || !call["method"].is_string()) {
    return absl::InvalidArgumentError("a call without \"method\"");
  }
  std::string method = call["method"].get<std::string>();
  std::vector<std::string> known = server_->methods(false);
  if (!std::binary_search(known.begin(), known.end(), method)) {
    return absl::InvalidArgumentError(absl::StrCat("unknown method ", method));
  }
  calls_.push_back({std::move(method), call.value("params", Json())});
  return absl::OkStatus();
}

void ConfigLoader::Run(std::function<void(absl::Status)> done) {
  next_ = 0;
  callable_ = server_->methods(true);
  done_ = std::move(done);
  Continue();
}

// A loop over calls that are answered at once; after one that is not, its answer goes on with it.
void ConfigLoader::Continue() {
  while (next_ < calls_.size()) {
    Call& call = calls_[next_++];
    if (call.made || !std::binary_search(callable_.begin(), callable_.end(), call.method)) continue;
    if (!MakeCall(call)) return;
  }
  End(absl::OkStatus());
}

// False when the loop is not to go on now.
bool ConfigLoader::MakeCall(Call& call) {
  call.made = true;
  in_call_ = true;
  answered_ = false;
  server_->Call(call.method, call.params, Reply([this, &call](RpcResult result) {
                  if (!result.ok()) {
                    const RpcError& error = result.error();
                    return End(absl::InternalError(
                        absl::StrCat(call.method, ": ", error.message, " (", error.code, ")")));
                  }
                  answered_ = true;
                  if (!in_call_) Continue();
                }));
  in_call_ = false;
  return answered_;
}

void ConfigLoader::End(absl::Status status) { std::exchange(done_, nullptr)(std::move(status)); }

}  // namespace sma::target::rpc
