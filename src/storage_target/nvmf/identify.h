// SPDX-License-Identifier: Apache-2.0

#pragma once

namespace sma::storage_target::nvmf {

class QueuePair;
struct Request;

/// Executes the Identify command, NVMe Base 2.0 §5.17.
void Identify(QueuePair& queue_pair, Request& request);

}  // namespace sma::storage_target::nvmf
