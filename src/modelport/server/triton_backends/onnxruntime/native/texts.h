// Texts: tensors of strings as Triton writes them (each behind its length in 4 bytes), and errors as callers may see them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime.h"

namespace modelport {

// Throws Failure (the caller's error) for text that is not UTF-8, and where there are not `count` of them.
// They stay in `data`.
std::vector<std::string_view> read_texts(const std::string& name, const char* data, uint64_t bytes, int64_t count);

size_t written_bytes(const ort::Texts& texts, size_t from, size_t count);
void write_texts(const ort::Texts& texts, size_t from, size_t count, char* data);

// One line about an error, without file paths and C++ signatures: callers may see it.
std::string plain(const std::string& error);

}  // namespace modelport
