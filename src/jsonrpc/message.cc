// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/message.h"

#include <fmt/format.h>

#include <iterator>
#include <limits>
#include <utility>

namespace sma::jsonrpc {
namespace {

absl::StatusOr<std::string> EncodeRequest(const Request& request, uint64_t id) {
  try {
    std::string params = request.params.is_null() ? "" : ",\"params\":" + request.params.dump();
    return fmt::format(R"({{"jsonrpc":"2.0","method":{}{},"id":{}}})", Json(request.method).dump(),
                       params, id);
  } catch (const Json::exception&) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the request contains text that is not UTF-8", request.method));
  }
}

bool DecodeAnswer(Json value, std::vector<Answer>& answers) {
  if (!value.is_object()) return false;
  auto id = value.find("id");
  if (id == value.end() || !id->is_number_unsigned()) return false;
  Answer answer;
  answer.id = id->get<uint64_t>();
  if (auto error = value.find("error"); error != value.end() && !error->is_null()) {
    if (!error->is_object()) return false;
    auto code = error->find("code");
    auto message = error->find("message");
    if (code == error->end() || !code->is_number_integer() || message == error->end() ||
        !message->is_string()) {
      return false;
    }
    const int64_t number = code->get<int64_t>();
    if (number < std::numeric_limits<int>::min() || number > std::numeric_limits<int>::max()) {
      return false;
    }
    answer.failed = true;
    answer.error = {static_cast<int>(number), std::move(message->get_ref<std::string&>())};
  } else {
    auto result = value.find("result");
    if (result == value.end()) return false;
    answer.result = std::move(*result);
  }
  answers.push_back(std::move(answer));
  return true;
}

// Groups requests into batches.
class BatchWriter {
 public:
  BatchWriter(EncodedRequests& out, size_t max_bytes) : out_(out), max_bytes_(max_bytes) {}

  void Add(const std::string& request) {
    const size_t size = out_.text.size() - start_;
    if (size > 0 && size + 1 + request.size() + 1 > max_bytes_) Close();
    out_.text += out_.text.size() == start_ ? '[' : ',';
    out_.text += request;
    ++count_;
  }

  void Close() {
    out_.text += ']';
    out_.ends.insert(out_.ends.end(), std::exchange(count_, 0), out_.text.size());
    start_ = out_.text.size();
  }

 private:
  EncodedRequests& out_;
  const size_t max_bytes_;
  size_t start_ = 0;  // of the current batch
  size_t count_ = 0;  // of its requests
};

}  // namespace

absl::StatusOr<EncodedRequests> EncodeRequests(std::span<const Request> requests, uint64_t first_id,
                                               const EncodeOptions& options) {
  EncodedRequests encoded;
  const bool batch = options.batch && requests.size() > 1;
  const size_t max_bytes = options.max_request_bytes - (batch ? 2 : 0);
  BatchWriter writer(encoded, options.max_request_bytes);
  for (size_t i = 0; i < requests.size(); ++i) {
    absl::StatusOr<std::string> text = EncodeRequest(requests[i], first_id + i);
    if (!text.ok()) return text.status();
    if (text->size() > max_bytes) {
      return absl::InvalidArgumentError(
          fmt::format("{}: the request has {} bytes, the target accepts at most {}",
                      requests[i].method, text->size(), max_bytes));
    }
    if (batch) {
      writer.Add(*text);
    } else {
      encoded.text += *text;
      encoded.ends.push_back(encoded.text.size());
    }
  }
  if (batch) writer.Close();
  return encoded;
}

bool DecodeAnswers(Json value, std::vector<Answer>& answers) {
  if (!value.is_array()) return DecodeAnswer(std::move(value), answers);
  if (value.empty()) return false;
  for (Json& element : value) {
    if (!DecodeAnswer(std::move(element), answers)) return false;
  }
  return true;
}

}  // namespace sma::jsonrpc
