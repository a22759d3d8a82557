// The inputs of requests, and one tensor for the model made of those of several.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"
#include "failure.h"
#include "runtime.h"
#include "triton.h"

namespace modelport {

size_t width(TRITONSERVER_DataType type);  // bytes of one element
int64_t product(const std::vector<int64_t>& shape, size_t from = 0);

// An input of one request; what it points at is Triton's and lives as long as the request.
struct Tensor {
  const Io* io = nullptr;
  TRITONBACKEND_Input* input = nullptr;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  const int64_t* shape = nullptr;
  uint32_t rank = 0, buffers = 0;
  uint64_t bytes = 0;

  // Throws Failure unless the data are as many as the shape says; the sizes of what is read next rest on that.
  void check_size() const;

  // Whether an axis may be filled up; axis 0 is the batch.
  bool fills_up(uint32_t axis) const { return !io->pad.empty() && axis <= io->dims.size() && io->dims[axis - 1] == -1; }
};

using Tensors = std::vector<const Tensor*>;  // the same input of several requests, or of one

// The shape of one tensor made of them: all rows, each axis as long as the longest.
std::vector<int64_t> joined_shape(const Tensors& tensors);

// The bytes that it takes: shapes that callers chose may be larger together than any whole number.
double joined_bytes(const Tensors& tensors);

// That tensor. A single one is not copied where its data are aligned; else they are in `buffer`, the rows one below the
// other, shorter ones filled up. Throws Failure.
ort::Value joined(const Tensors& tensors, bool scalar, std::vector<char>& buffer);

}  // namespace modelport
