// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/exchange.h"

#include <fmt/format.h>

#include <utility>

namespace sma::jsonrpc {
namespace {

// Text that is not UTF-8 (such as a device's serial number) is sent with replacement characters.
std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool IsId(const Json& value) { return value.is_string() || value.is_number() || value.is_null(); }

}  // namespace

std::string ErrorAnswer(const Json& id, int code, std::string_view message) {
  return fmt::format(R"({{"jsonrpc":"2.0","id":{},"error":{{"code":{},"message":{}}}}})", Dump(id),
                     code, Dump(Json(message)));
}

Exchange::~Exchange() {
  if (!answered_) Error(kInternalError, "Internal error");
}

void Exchange::Result(const Json& result) {
  if (answered_) return;
  if (id_.is_null()) return Finish("");
  Finish(fmt::format(R"({{"jsonrpc":"2.0","id":{},"result":{}}})", Dump(id_), Dump(result)));
}

void Exchange::Error(int code, std::string_view message) {
  if (answered_) return;
  if (id_.is_null()) return Finish("");
  Finish(ErrorAnswer(id_, code, message));
}

void Exchange::Finish(std::string answer) {
  answered_ = true;
  sink_->Finish(std::move(answer));
}

IncomingRequest DecodeRequest(Json value) {
  IncomingRequest request;
  if (!value.is_object()) return request;
  bool valid = true;
  bool has_method = false;
  for (auto& [key, member] : value.items()) {
    if (key == "jsonrpc") {
      valid = valid && member == "2.0";
    } else if (key == "method" && member.is_string()) {
      has_method = true;
      request.method = std::move(member.get_ref<std::string&>());
    } else if (key == "params" && (member.is_structured() || member.is_null())) {
      request.params = std::move(member);
    } else if (key == "id" && IsId(member)) {
      request.id = std::move(member);
    } else {
      valid = false;
    }
  }
  request.valid = valid && has_method;
  return request;
}

void BatchSink::Finish(std::string answer) {
  if (!answer.empty()) {
    answers_ += answers_.empty() ? '[' : ',';
    answers_ += answer;
  }
  if (--open_ > 0) return;
  if (!answers_.empty()) answers_ += ']';
  sink_->Finish(std::move(answers_));
}

}  // namespace sma::jsonrpc
