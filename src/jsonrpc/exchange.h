// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {

/// Receives an answer when it is complete.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  /// `answer` is one answer object without newline; empty for a notification. Called once for each
  /// Exchange.
  virtual void Finish(std::string answer) = 0;
};

/// A request that has been received and not yet answered.
class Exchange {
 public:
  /// `id` is null for a notification, which is not answered.
  Exchange(Json id, std::shared_ptr<AnswerSink> sink)
      : id_(std::move(id)), sink_(std::move(sink)) {}
  /// Answers with error -32603 if no answer has been given.
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  void Result(const Json& result);
  void Error(int code, std::string_view message);

 private:
  void Finish(std::string answer);

  const Json id_;
  const std::shared_ptr<AnswerSink> sink_;
  bool answered_ = false;
};

/// Returns an answer with an error, without newline.
std::string ErrorAnswer(const Json& id, int code, std::string_view message);

/// The parts of a request (JSON-RPC 2.0 §4).
struct IncomingRequest {
  bool valid = false;  // false: the answer is -32600, and `id` is as far as it could be read
  Json id;             // null: a notification
  std::string method;
  Json params;  // object, array or null
};

/// Decodes `value` as SPDK does. A request is invalid if it has any of these: members other than
/// the four, a "jsonrpc" other than "2.0", an id that is not a string, number or null, or params
/// that are not an object, array or null.
IncomingRequest DecodeRequest(Json value);

/// Collects the answers to a batch, and forwards them as one array when the last one has arrived.
class BatchSink : public AnswerSink {
 public:
  /// `count` is the number of answers, at least 1.
  BatchSink(size_t count, std::shared_ptr<AnswerSink> sink)
      : open_(count), sink_(std::move(sink)) {}
  void Finish(std::string answer) override;
  /// Returns the size of the answers so far.
  size_t size_bytes() const { return answers_.size(); }

 private:
  size_t open_;
  std::string answers_;
  const std::shared_ptr<AnswerSink> sink_;
};

}  // namespace sma::jsonrpc
