#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jsonrpc/protocol.h"

namespace sma::spdk {

/// The value of a JSON integer that is not negative; none for anything else.
std::optional<uint64_t> AsUint(const jsonrpc::Json& value);

// Members of an object that came from the target. `object` may be of any type; a member that is
// missing or of another type reads as none.

/// The member itself; nullptr when there is none.
const jsonrpc::Json* Member(const jsonrpc::Json& object, const char* name);

std::optional<std::string> StringMember(const jsonrpc::Json& object, const char* name);
std::optional<uint64_t> UintMember(const jsonrpc::Json& object, const char* name);
std::optional<bool> BoolMember(const jsonrpc::Json& object, const char* name);

/// The elements of an array, each owned by `object`; none when it is no array.
std::vector<const jsonrpc::Json*> ElementsOf(const jsonrpc::Json& object, const char* name);

}  // namespace sma::spdk
