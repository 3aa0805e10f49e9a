// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jsonrpc/protocol.h"

namespace sma::spdk {

/// Returns the value of a non-negative JSON integer; nullopt for any other value.
std::optional<uint64_t> AsUint(const jsonrpc::Json& value);

// Functions for reading the members of an object that the target sent. `object` may be of any type.
// Missing members, and members of another type, are returned as nullopt, null or an empty vector.

/// Returns a pointer to the member; null if it is missing.
const jsonrpc::Json* Member(const jsonrpc::Json& object, const char* name);

std::optional<std::string> StringMember(const jsonrpc::Json& object, const char* name);
std::optional<uint64_t> UintMember(const jsonrpc::Json& object, const char* name);
std::optional<bool> BoolMember(const jsonrpc::Json& object, const char* name);

/// Returns the elements of an array, owned by `object`; an empty vector if the member is not an
/// array.
std::vector<const jsonrpc::Json*> ElementsOf(const jsonrpc::Json& object, const char* name);

}  // namespace sma::spdk
