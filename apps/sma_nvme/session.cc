// SPDX-License-Identifier: Apache-2.0

#include "sma_nvme/session.h"

#include "absl/strings/str_cat.h"
#include "base/nqn.h"
#include "storage_target/bdev_modules/nvme/initiator/namespace_scan.h"

namespace sma::sma_nvme {

namespace initiator = storage_target::initiator;
using initiator::NamespaceInfo;

namespace {

// Returns a new host NQN for each run, which is used unless the user specifies one.
std::string RandomHostNqn(const base::Uuid& host_id) {
  return "nqn.2014-08.org.nvmexpress:uuid:" + host_id.ToString();
}

absl::StatusOr<initiator::Association> MakeAssociation(const RemoteOptions& options) {
  auto address = initiator::Address::Parse(options.traddr, options.trsvcid);
  if (!address) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a numeric IP address and port: ", options.traddr, " ", options.trsvcid));
  }
  for (const std::string& nqn : {options.subnqn, options.hostnqn}) {
    if (!nqn.empty() && !base::IsValidNqn(nqn)) {
      return absl::InvalidArgumentError(absl::StrCat("not an NVMe qualified name: ", nqn));
    }
  }
  const base::Uuid host_id = base::Uuid::Random();
  return initiator::Association{
      .address = *address,
      .source = {},
      .subnqn = options.subnqn,
      .hostnqn = options.hostnqn.empty() ? RandomHostNqn(host_id) : options.hostnqn,
      .host_id = host_id,
      .header_digest = options.header_digest,
      .data_digest = options.data_digest};
}

}  // namespace

Session::Session(std::chrono::seconds timeout)
    : timeout_(timeout),
      reactor_(storage_target::Reactor::ForThisThread({.poll = std::chrono::microseconds(0)})) {}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const RemoteOptions& options,
                                                       uint16_t io_queue_count) {
  absl::StatusOr<initiator::Association> association = MakeAssociation(options);
  if (!association.ok()) return association.status();
  std::unique_ptr<Session> session(new Session(std::chrono::seconds(options.timeout_seconds)));
  initiator::Controller::Options controller_options{
      .association = *association,
      .io_queue_count = io_queue_count,
      .connect_timeout = std::chrono::seconds(options.timeout_seconds)};
  session->controller_ = std::make_unique<initiator::Controller>(
      *session->reactor_, controller_options, static_cast<initiator::Controller::Owner&>(*session));
  session->controller_->Start();
  absl::Status status = session->RunUntil([&] { return session->ready_; });
  if (!status.ok()) return status;
  return session;
}

Session::~Session() {
  bool done = false;
  controller_->Shutdown([&done] { done = true; });
  reactor_->RunUntil([&done] { return done; }, timeout_);
}

void Session::OnControllerReady(initiator::Controller& /*controller*/) { ready_ = true; }

void Session::OnControllerClosed(initiator::Controller& /*controller*/, const std::string& reason) {
  closed_ = reason;
}

absl::Status Session::RunUntil(const std::function<bool()>& done) {
  bool in_time = reactor_->RunUntil([&] { return closed_ || done(); }, timeout_);
  const std::string remote = controller_->options().association.address.ToString();
  if (closed_) return absl::UnavailableError(absl::StrCat(remote, ": ", *closed_));
  if (!in_time) return absl::DeadlineExceededError(absl::StrCat(remote, ": no response in time"));
  return absl::OkStatus();
}

absl::Status Session::RunBriefly() {
  reactor_->RunUntil([this] { return closed_.has_value(); }, std::chrono::nanoseconds(1));
  if (closed_) return absl::UnavailableError(*closed_);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<NamespaceInfo>> Session::ListNamespaces() {
  std::optional<std::vector<NamespaceInfo>> found;
  bool all = false;
  initiator::NamespaceScan scan(*controller_,
                                [&](bool complete, std::vector<NamespaceInfo> namespaces) {
                                  all = complete;
                                  found = std::move(namespaces);
                                });
  absl::Status status = RunUntil([&] { return found.has_value(); });
  if (!status.ok()) return status;
  if (!all) return absl::UnavailableError("the namespaces of the controller could not be read");
  return *found;
}

absl::StatusOr<std::unique_ptr<initiator::QueuePair>> Session::OpenQueue(uint16_t queue_id,
                                                                         uint16_t entries) {
  auto queue =
      std::make_unique<initiator::QueuePair>(controller_->IoQueueOptions(queue_id, entries));
  queue->Start();
  const auto deadline = std::chrono::steady_clock::now() + timeout_;
  while (!queue->ready() && !queue->closed()) {
    queue->Poll();
    if (absl::Status status = RunBriefly(); !status.ok()) return status;
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError("an I/O queue was not connected in time");
    }
  }
  if (queue->closed()) return absl::UnavailableError(queue->close_reason());
  return queue;
}

absl::StatusOr<NamespaceInfo> ChooseNamespace(const std::vector<NamespaceInfo>& namespaces,
                                              const std::string& text) {
  if (text.empty()) {
    if (namespaces.size() == 1) return namespaces.front();
    return absl::InvalidArgumentError(absl::StrCat("the subsystem has ", namespaces.size(),
                                                   " namespaces: select one with --namespace"));
  }
  for (const NamespaceInfo& info : namespaces) {
    if (text == std::to_string(info.nsid) || base::Uuid::Parse(text) == info.uuid) return info;
  }
  return absl::NotFoundError(absl::StrCat("the subsystem has no namespace ", text));
}

}  // namespace sma::sma_nvme
