#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "target/nvme/identify_namespace.h"
#include "target/nvme/log_page.h"
#include "target/nvmf/completion_sink.h"

namespace sma::target::nvmf {

struct Request;

/// The asynchronous events of one controller (NVMe Base 2.0 §5.2): requests that wait for an event,
/// events that wait for a request. An event is reported once until the host has read its log page.
/// The admin queue's reactor only.
class AsyncEvents {
 public:
  static constexpr size_t kRequestLimit = 4;  // AERL is one less

  /// `supported`: which of the kAec... bits the controller has; none is enabled at first.
  explicit AsyncEvents(uint32_t supported) : supported_(supported) {}

  /// The admin queue is connected: requests complete through `sink` until Detach.
  void Attach(CompletionSink& sink) { sink_ = &sink; }
  /// Forgets all requests: their queue pair is gone.
  void Detach() {
    sink_ = nullptr;
    request_count_ = 0;
    untold_.clear();
  }

  /// Takes an Asynchronous Event Request; may complete it at once.
  void Add(Request& request);
  /// Completes the request of this id with kAbortRequested; false when there is none.
  bool Abort(uint16_t cid);
  /// Completes all requests; events go on being noted.
  void AbortAll(nvme::Status status);

  /// The feature kAsyncEventConfig. Bits that are not supported are not kept.
  uint32_t config() const { return config_; }
  void set_config(uint32_t config) { config_ = config & supported_; }

  void NamespaceChanged(uint32_t nsid);
  /// The same for one that has been removed. Keeps `untold` until the host has been told, by the
  /// log page or a list of the active namespaces, or the admin queue is gone.
  void NamespaceRemoved(uint32_t nsid, std::shared_ptr<void> untold);
  /// The host has read all of the Changed Namespace List.
  void ChangedNamespacesRead();
  /// The host has read which namespaces with an NSID from `first` to `last` are active.
  void NamespacesListed(uint32_t first, uint32_t last);
  void DiscoveryLogChanged();

  /// The host has read a log page, and not asked to retain its event.
  void PageRead(nvme::LogPage page);
  /// The changed namespaces (NVMe Base 2.0 §5.16.1.5).
  nvme::NamespaceList changed_namespaces() const;

 private:
  struct Event {
    uint32_t config_bit;
    nvme::AsyncEventNotice notice;
    nvme::LogPage page;
    bool pending = false;  // happened, not reported
    bool masked = false;   // reported, page not read
  };

  void Happened(Event& event);
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
  std::array<Request*, kRequestLimit> requests_{};  // the oldest first
  size_t request_count_ = 0;
  std::set<uint32_t> changed_namespaces_;  // one more than the page holds at most
  struct Untold {
    uint32_t nsid;
    std::shared_ptr<void> token;
  };
  std::vector<Untold> untold_;  // removed namespaces that the host does not know of
};

}  // namespace sma::target::nvmf
