// Filling up: inputs of different sizes go into one run where it was proved at export that the answers stay the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "json.h"

namespace modelport {

// A run gets at most so many times as many elements by it: what is filled up is computed, too. For an LSTM and batches of
// 8 to 16 rows, 10 to 80 words long, this took the least time of 1.0, 1.1, 1.25, 1.5, 2 and 4.
constexpr double kFilledUp = 1.25;

// The bytes of one element that fills an input up; empty for a type that cannot be filled up.
std::string pad_element(const std::string& type, const Json& value);

// A block of `bytes` that holds nothing but that element.
void fill(std::vector<char>& block, size_t bytes, const std::string& element);

// Copies rows of `shape` into the beginning of each axis of rows that are larger; both have the same number of axes and
// of rows, elements of `width` bytes.
void place(char* to, const std::vector<int64_t>& larger, const char* from, const std::vector<int64_t>& shape, size_t width);

}  // namespace modelport
