#include "inputs.h"

#include <algorithm>
#include <cstddef>

#include "pad.h"
#include "texts.h"

namespace modelport {

namespace {

constexpr size_t kAligned = alignof(std::max_align_t);  // what begins elsewhere is copied: no allocator gives such an array

// Calls `take` with each part of the data and its size. Throws Failure for data that are not in this memory.
template <class Take>
void each_part(const Tensor& tensor, Take take) {
  for (uint32_t i = 0; i < tensor.buffers; ++i) {
    const void* part = nullptr;
    uint64_t size = 0;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t device = 0;
    check(TRITONBACKEND_InputBuffer(tensor.input, i, &part, &size, &memory, &device));
    if (memory == TRITONSERVER_MEMORY_GPU) throw Failure("input '" + tensor.io->name + "' is in a GPU's memory");
    take(static_cast<const char*>(part), size);
  }
}

void require_whole(const Tensor& tensor, bool whole) {
  if (!whole) throw Failure("input '" + tensor.io->name + "' came incomplete");
}

// The data of all tensors, one behind the other: of a single one in place where that is possible, else in `buffer`.
const char* end_to_end(const Tensors& tensors, uint64_t bytes, std::vector<char>& buffer) {
  const char* data = nullptr;
  buffer.clear();
  buffer.reserve(tensors.size() > 1 ? bytes : 0);
  for (const Tensor* tensor : tensors)
    each_part(*tensor, [&](const char* part, uint64_t size) {
      if (size == bytes && reinterpret_cast<uintptr_t>(part) % kAligned == 0)
        data = part;
      else if (size > 0)
        buffer.insert(buffer.end(), part, part + size);
    });
  require_whole(*tensors[0], data != nullptr || buffer.size() == bytes);
  return data == nullptr ? buffer.data() : data;
}

// The rows of all tensors, filled up to `shape`.
const char* filled_up(const Tensors& tensors, const std::vector<int64_t>& shape, std::vector<char>& buffer) {
  const size_t element = width(tensors[0]->type);
  fill(buffer, static_cast<size_t>(product(shape)) * element, tensors[0]->io->pad);
  std::vector<char> whole;
  size_t at = 0;
  for (const Tensor* tensor : tensors) {
    const char* data = nullptr;
    whole.clear();
    each_part(*tensor, [&](const char* part, uint64_t size) {
      if (size == tensor->bytes)
        data = part;
      else
        whole.insert(whole.end(), part, part + size);
    });
    require_whole(*tensor, data != nullptr || whole.size() == tensor->bytes);
    const std::vector<int64_t> own(tensor->shape, tensor->shape + tensor->rank);
    std::vector<int64_t> larger = shape;
    larger[0] = own[0];
    place(buffer.data() + at, larger, data == nullptr ? whole.data() : data, own, element);
    at += static_cast<size_t>(product(larger)) * element;
  }
  return buffer.data();
}

}  // namespace

size_t width(TRITONSERVER_DataType type) {
  switch (type) {
    case TRITONSERVER_TYPE_BOOL:
    case TRITONSERVER_TYPE_UINT8:
    case TRITONSERVER_TYPE_INT8: return 1;
    case TRITONSERVER_TYPE_UINT16:
    case TRITONSERVER_TYPE_INT16:
    case TRITONSERVER_TYPE_FP16:
    case TRITONSERVER_TYPE_BF16: return 2;
    case TRITONSERVER_TYPE_UINT32:
    case TRITONSERVER_TYPE_INT32:
    case TRITONSERVER_TYPE_FP32: return 4;
    default: return 8;
  }
}

int64_t product(const std::vector<int64_t>& shape, size_t from) {
  int64_t count = 1;
  for (size_t i = from; i < shape.size(); ++i) count *= shape[i];
  return count;
}

void Tensor::check_size() const {
  int64_t count = 1, size = 0;
  bool right = true;
  for (uint32_t i = 0; i < rank; ++i) right &= shape[i] >= 0 && !__builtin_mul_overflow(count, shape[i], &count);
  if (type != TRITONSERVER_TYPE_BYTES)
    right &= !__builtin_mul_overflow(count, static_cast<int64_t>(width(type)), &size) &&
             static_cast<uint64_t>(size) == bytes;
  if (!right)
    throw Failure(TRITONSERVER_ERROR_INVALID_ARG, "input '" + io->name + "' has " + std::to_string(bytes) +
                                                      " bytes, which is not what its shape says");
}

std::vector<int64_t> joined_shape(const Tensors& tensors) {
  std::vector<int64_t> shape(tensors[0]->shape, tensors[0]->shape + tensors[0]->rank);
  if (tensors.size() == 1) return shape;
  shape[0] = 0;
  for (const Tensor* tensor : tensors) {
    shape[0] += tensor->shape[0];
    for (size_t i = 1; i < shape.size(); ++i) shape[i] = std::max(shape[i], tensor->shape[i]);
  }
  return shape;
}

double joined_bytes(const Tensors& tensors) {
  auto bytes = static_cast<double>(width(tensors[0]->type));
  for (const int64_t dim : joined_shape(tensors)) bytes *= static_cast<double>(dim);
  return bytes;
}

ort::Value joined(const Tensors& tensors, bool scalar, std::vector<char>& buffer) {
  const Tensor& first = *tensors[0];
  std::vector<int64_t> shape = joined_shape(tensors);
  uint64_t bytes = 0;
  for (const Tensor* tensor : tensors) bytes += tensor->bytes;
  const char* data = nullptr;
  const auto whole = static_cast<uint64_t>(product(shape)) * width(first.type);
  if (!first.io->pad.empty() && whole != bytes) {
    data = filled_up(tensors, shape, buffer);
    bytes = whole;
  } else {
    data = end_to_end(tensors, bytes, buffer);
  }
  if (scalar) shape.clear();
  if (first.type == TRITONSERVER_TYPE_BYTES)
    return ort::string_tensor(shape, read_texts(first.io->name, data, bytes, product(shape)));
  if (first.type == TRITONSERVER_TYPE_BOOL && std::any_of(data, data + bytes, [](char bit) { return bit != 0 && bit != 1; }))
    throw Failure(TRITONSERVER_ERROR_INVALID_ARG, "input '" + first.io->name + "' holds a truth value that is neither 0 nor 1");
  return ort::tensor(first.type, shape, data, bytes);
}

}  // namespace modelport
