// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/send_queue.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

namespace sma::jsonrpc {

SendQueue::PieceId SendQueue::Push(std::string bytes) {
  size_bytes_ += bytes.size();
  pieces_.push_back({next_id_, std::move(bytes)});
  return next_id_++;
}

int SendQueue::Flush(int socket) {
  std::array<iovec, 64> iovs;
  while (!pieces_.empty()) {
    const size_t count = std::min(iovs.size(), pieces_.size());
    for (size_t i = 0; i < count; ++i) {
      std::string& bytes = pieces_[i].bytes;
      const size_t skip = i == 0 ? front_sent_ : 0;
      iovs[i] = {bytes.data() + skip, bytes.size() - skip};
    }
    msghdr message{};
    message.msg_iov = iovs.data();
    message.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      Drop(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return 0;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

size_t SendQueue::SentBytes(PieceId id) const {
  if (pieces_.empty() || id < pieces_.front().id) return std::numeric_limits<size_t>::max();
  return id == pieces_.front().id ? front_sent_ : 0;
}

bool SendQueue::Remove(PieceId id) {
  if (SentBytes(id) > 0) return false;
  auto piece = std::lower_bound(pieces_.begin(), pieces_.end(), id,
                                [](const Piece& p, PieceId wanted) { return p.id < wanted; });
  size_bytes_ -= piece->bytes.size();
  pieces_.erase(piece);
  return true;
}

void SendQueue::Clear() {
  pieces_.clear();
  front_sent_ = 0;
  size_bytes_ = 0;
}

void SendQueue::Drop(size_t count) {
  size_bytes_ -= count;
  front_sent_ += count;
  while (!pieces_.empty() && front_sent_ >= pieces_.front().bytes.size()) {
    front_sent_ -= pieces_.front().bytes.size();
    pieces_.pop_front();
  }
}

}  // namespace sma::jsonrpc
