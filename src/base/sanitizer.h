// SPDX-License-Identifier: Apache-2.0

#pragma once

// SMA_HAS_SANITIZER is defined if the program is built with AddressSanitizer or ThreadSanitizer,
// both of which have their own allocator.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SMA_HAS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SMA_HAS_SANITIZER
#endif
