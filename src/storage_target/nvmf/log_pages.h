// SPDX-License-Identifier: Apache-2.0

#pragma once

namespace sma::storage_target::nvmf {

class QueuePair;
struct Request;

/// Executes the Get Log Page command, NVMe Base 2.0 §5.16.
void ReadLogPage(QueuePair& queue_pair, Request& request);

}  // namespace sma::storage_target::nvmf
