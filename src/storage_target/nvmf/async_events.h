// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvme/log_page.h"
#include "storage_target/nvmf/completion_sink.h"

namespace sma::storage_target::nvmf {

struct Request;

/// The asynchronous events of one controller (NVMe Base 2.0 §5.2): requests that wait for an event,
/// and events that wait for a request. An event is reported once until the host has read its log
/// page. Owned by the admin queue's reactor.
class AsyncEvents {
 public:
  static constexpr size_t kRequestLimit = 4;  // AERL + 1

  /// `supported` contains the kAec... bits that the controller supports; all are initially
  /// disabled.
  explicit AsyncEvents(uint32_t supported) : supported_(supported) {}

  /// Must be called when the admin queue is connected. Requests complete through `sink` until
  /// Detach.
  void Attach(CompletionSink& sink) { sink_ = &sink; }
  /// Drops all requests without completing them, because their queue pair is being destroyed.
  void Detach() {
    sink_ = nullptr;
    request_count_ = 0;
    unnotified_.clear();
  }

  /// Accepts an Asynchronous Event Request; may complete it immediately.
  void Add(Request& request);
  /// Completes the request with this command identifier with kAbortRequested; returns false if
  /// there is none.
  bool Abort(uint16_t cid);
  /// Completes all requests; further events are still recorded.
  void AbortAll(nvme::Status status);

  /// Get and set the value of the feature kAsyncEventConfig. Unsupported bits are ignored.
  uint32_t config() const { return config_; }
  void set_config(uint32_t config) { config_ = config & supported_; }

  void NamespaceChanged(uint32_t nsid);
  /// Reports a removed namespace. Keeps `unnotified` until the host has been notified of the
  /// removal by the log page or from a list of active namespaces, until the next removal of this
  /// NSID, or until the admin queue is disconnected.
  void NamespaceRemoved(uint32_t nsid, std::shared_ptr<void> unnotified);
  /// Returns true if the host has not been notified of the removal of a namespace with this NSID.
  bool IsUnaware(uint32_t nsid) const { return unnotified_.contains(nsid); }
  /// Must be called when the host has read the complete Changed Namespace List.
  void ChangedNamespacesRead();
  /// Must be called when the host has read the list of active namespaces with NSIDs from `first` to
  /// `last`.
  void NamespacesListed(uint32_t first, uint32_t last);
  void DiscoveryLogChanged();

  /// Must be called when the host has read a log page without retaining its event (RAE).
  void PageRead(nvme::LogPage page);
  /// Returns the Changed Namespace List (NVMe Base 2.0 §5.16.1.5).
  nvme::NamespaceList changed_namespaces() const;

 private:
  struct Event {
    uint32_t config_bit;
    nvme::AsyncEventNotice notice;
    nvme::LogPage page;
    bool pending = false;  // occurred, not reported
    bool masked = false;   // reported, log page not read
  };

  void Record(Event& event);
  void Report();

  const uint32_t supported_;
  uint32_t config_ = 0;
  CompletionSink* sink_ = nullptr;
  std::array<Event, 2> events_{{
      {nvme::kAecNamespaceAttributes, nvme::AsyncEventNotice::kNamespaceAttributeChanged,
       nvme::LogPage::kChangedNamespaces},
      {nvme::kAecDiscoveryLogChange, nvme::AsyncEventNotice::kDiscoveryLogChange,
       nvme::LogPage::kDiscovery},
  }};
  std::array<Request*, kRequestLimit> requests_{};  // oldest first
  size_t request_count_ = 0;
  std::set<uint32_t> changed_namespaces_;  // at most one more than the log page can hold
  // The tokens of removed namespaces of which the host is not aware, by NSID. The latest removal
  // replaces an earlier one of the same NSID, so there are at most as many as NSIDs.
  std::map<uint32_t, std::shared_ptr<void>> unnotified_;
};

}  // namespace sma::storage_target::nvmf
