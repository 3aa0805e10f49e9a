#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {

/// Where an answer goes when it is ready.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  /// `answer`: one answer object without newline, empty when there is nothing to say. Called once
  /// for each Exchange.
  virtual void Finish(std::string answer) = 0;
};

/// One request on its way from being read to being answered.
class Exchange {
 public:
  /// `id`: null for a notification, which is not answered.
  Exchange(Json id, std::shared_ptr<AnswerSink> sink)
      : id_(std::move(id)), sink_(std::move(sink)) {}
  /// Answers -32603 when nobody did.
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

/// The text of an answer with an error, without newline.
std::string ErrorAnswer(const Json& id, int code, std::string_view message);

/// The parts of a request (JSON-RPC 2.0 §4).
struct IncomingRequest {
  bool valid = false;  // false: to be answered -32600; `id` then is what could be made out
  Json id;             // null: a notification
  std::string method;
  Json params;  // object, array or null
};

/// Takes `value` apart as SPDK does: members other than the four, a "jsonrpc" other than "2.0", an
/// id that is no string, number or null, params that are no object, array or null make it invalid.
IncomingRequest DecodeRequest(Json value);

/// The answers of a batch: gathers them and passes them on as one array when the last one is there.
class BatchSink : public AnswerSink {
 public:
  /// `count`: how many answers will come, at least 1.
  BatchSink(size_t count, std::shared_ptr<AnswerSink> sink)
      : open_(count), sink_(std::move(sink)) {}
  void Finish(std::string answer) override;
  /// Of the answers so far.
  size_t size_bytes() const { return answers_.size(); }

 private:
  size_t open_;
  std::string answers_;
  const std::shared_ptr<AnswerSink> sink_;
};

}  // namespace sma::jsonrpc
