#include "pad.h"

#include <cstdlib>
#include <cstring>

namespace modelport {

namespace {

template <class Number>
std::string bytes_of(Number number) {
  return std::string(reinterpret_cast<const char*>(&number), sizeof number);
}

// Copies from one axis on; the pointers move on behind what was read and written.
void place_axis(char*& to, const std::vector<int64_t>& larger, const char*& from, const std::vector<int64_t>& shape,
                size_t axis, size_t width) {
  size_t inner = width, inner_larger = width;
  for (size_t i = axis + 1; i < shape.size(); ++i) {
    inner *= static_cast<size_t>(shape[i]);
    inner_larger *= static_cast<size_t>(larger[i]);
  }
  const auto count = static_cast<size_t>(shape[axis]);
  char* const end = to + inner_larger * static_cast<size_t>(larger[axis]);
  if (inner == inner_larger) {
    if (inner * count > 0) std::memcpy(to, from, inner * count);
    from += inner * count;
  } else {
    for (size_t i = 0; i < count; ++i) place_axis(to, larger, from, shape, axis + 1, width);
  }
  to = end;
}

}  // namespace

std::string pad_element(const std::string& type, const Json& value) {
  const long long number = value.number();
  if (type == "TYPE_FP32") return bytes_of(std::strtof(value.text().c_str(), nullptr));
  if (type == "TYPE_FP64") return bytes_of(std::strtod(value.text().c_str(), nullptr));
  if (type == "TYPE_INT64" || type == "TYPE_UINT64") return bytes_of(static_cast<int64_t>(number));
  if (type == "TYPE_INT32" || type == "TYPE_UINT32") return bytes_of(static_cast<int32_t>(number));
  if (type == "TYPE_INT16" || type == "TYPE_UINT16") return bytes_of(static_cast<int16_t>(number));
  if (type == "TYPE_INT8" || type == "TYPE_UINT8") return bytes_of(static_cast<int8_t>(number));
  return "";
}

void fill(std::vector<char>& block, size_t bytes, const std::string& element) {
  block.assign(bytes, element[0]);
  if (element.find_first_not_of(element[0]) == std::string::npos) return;
  for (size_t at = 0; at + element.size() <= bytes; at += element.size())
    std::memcpy(block.data() + at, element.data(), element.size());
}

void place(char* to, const std::vector<int64_t>& larger, const char* from, const std::vector<int64_t>& shape, size_t width) {
  place_axis(to, larger, from, shape, 0, width);
}

}  // namespace modelport
