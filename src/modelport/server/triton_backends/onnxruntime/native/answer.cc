#include "answer.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "failure.h"
#include "texts.h"

namespace modelport {

namespace {

constexpr size_t kAligned = 64;  // an array that begins elsewhere is copied: ONNX Runtime may read it in such steps
constexpr size_t kKeptBytes = 64 << 20;  // a larger buffer is given back after the run

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

uint64_t now_ns() { return static_cast<uint64_t>(now_s() * 1e9); }

int64_t product(const std::vector<int64_t>& shape, size_t from = 0) {
  int64_t count = 1;
  for (size_t i = from; i < shape.size(); ++i) count *= shape[i];
  return count;
}

}  // namespace

struct Tensor {
  const Io* io = nullptr;
  TRITONBACKEND_Input* input = nullptr;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
  uint32_t buffers = 0;
};

struct Instance::Request {
  TRITONBACKEND_Request* triton = nullptr;
  std::vector<Tensor> tensors;  // in the order of the configuration; an optional one may be missing
  int64_t rows = 0;             // 0 without a batch axis
  bool answered = false;        // not refused, and not failed
};

struct Instance::Times {
  uint64_t began = 0, compute_began = 0, compute_ended = 0;
};

Instance::Instance(TRITONBACKEND_ModelInstance* triton, std::shared_ptr<Model> model)
    : triton_(triton),
      model_(std::move(model)),
      session_(model_->session()),
      options_(model_->run_options()),
      line_(model_->config,
            [this] { return waiting_requests(model_->server, model_->config.name, model_->config.version); }),
      watched_(model_->config, *options_),
      buffers_(model_->config.inputs.size()) {}

namespace {

void send(TRITONBACKEND_Response* response, const Failure* failure) {
  TRITONSERVER_Error* error = failure == nullptr ? nullptr : failure->error();
  TRITONSERVER_Error* sent = TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error);
  for (TRITONSERVER_Error* done : {error, sent})
    if (done != nullptr) TRITONSERVER_ErrorDelete(done);
}

void refuse(TRITONBACKEND_Request* request, const Failure& failure) {
  TRITONBACKEND_Response* response = nullptr;
  if (TRITONSERVER_Error* error = TRITONBACKEND_ResponseNew(&response, request))
    TRITONSERVER_ErrorDelete(error);
  else
    send(response, &failure);
}

}  // namespace

void Instance::execute(TRITONBACKEND_Request** handles, uint32_t count) {
  Times times;
  times.began = times.compute_began = times.compute_ended = now_ns();
  std::vector<Request> requests(count);
  for (uint32_t i = 0; i < count; ++i) requests[i].triton = handles[i];
  const double began = now_s();
  if (line_.refuses(static_cast<int>(count), began)) {
    const Failure overloaded(TRITONSERVER_ERROR_UNAVAILABLE,
                             "model '" + model_->config.name + "' is overloaded: more requests wait than it answers in time");
    for (Request& request : requests) refuse(request.triton, overloaded);
  } else {
    for (const std::vector<Request*>& group : groups(requests)) {
      if (group.size() == 1)
        alone(*group[0], times);
      else
        together(group, times);
    }
    line_.answered(static_cast<int>(count), began, now_s());
  }
  const uint64_t ended = now_ns();
  uint64_t rows = 0;
  for (Request& request : requests) {
    rows += request.answered ? static_cast<uint64_t>(std::max<int64_t>(1, request.rows)) : 0;
    TRITONBACKEND_ModelInstanceReportStatistics(triton_, request.triton, request.answered, times.began,
                                                times.compute_began, times.compute_ended, ended);
    TRITONBACKEND_RequestRelease(request.triton, TRITONSERVER_REQUEST_RELEASE_ALL);
  }
  if (rows > 0)
    TRITONBACKEND_ModelInstanceReportBatchStatistics(triton_, rows, times.began, times.compute_began,
                                                     times.compute_ended, ended);
  for (std::vector<char>& buffer : buffers_)
    if (buffer.capacity() > kKeptBytes) std::vector<char>().swap(buffer);
}

void Instance::read(Request& request) const {
  const std::vector<Io>& ios = model_->config.inputs;
  uint32_t count = 0;
  check(TRITONBACKEND_RequestInputCount(request.triton, &count));
  std::vector<Tensor> found(ios.size());
  for (uint32_t i = 0; i < count; ++i) {
    Tensor tensor;
    const char* name = nullptr;
    const int64_t* shape = nullptr;
    uint32_t rank = 0;
    check(TRITONBACKEND_RequestInputByIndex(request.triton, i, &tensor.input));
    check(TRITONBACKEND_InputProperties(tensor.input, &name, &tensor.type, &shape, &rank, &tensor.bytes, &tensor.buffers));
    tensor.shape.assign(shape, shape + rank);
    for (size_t place = 0; place < ios.size(); ++place) {
      if (ios[place].name != name) continue;
      tensor.io = &ios[place];
      if (model_->config.batched() && rank > 0) request.rows = shape[0];
      found[place] = std::move(tensor);
      break;
    }
  }
  for (Tensor& tensor : found)
    if (tensor.io != nullptr) request.tensors.push_back(std::move(tensor));
}

std::vector<std::vector<Instance::Request*>> Instance::groups(std::vector<Request>& requests) const {
  std::vector<std::vector<Request*>> found;
  std::map<std::vector<int64_t>, size_t> known;  // sample shapes -> place in `found`
  for (Request& request : requests) {
    try {
      read(request);
    } catch (const std::exception& error) {
      refuse(request.triton, failure(error));
      continue;
    }
    if (requests.size() == 1 || !model_->config.batched()) {
      found.push_back({&request});
      continue;
    }
    std::vector<int64_t> key;
    for (const Tensor& tensor : request.tensors) {
      key.push_back(static_cast<int64_t>(tensor.shape.size()));
      key.insert(key.end(), tensor.shape.begin() + 1, tensor.shape.end());
    }
    const auto [place, is_new] = known.emplace(std::move(key), found.size());
    if (is_new) found.emplace_back();
    found[place->second].push_back(&request);
  }
  return found;
}

void Instance::alone(Request& request, Times& times) {
  try {
    const std::vector<const Io*> outputs = wanted(request);
    const std::vector<ort::Value> values = run({&request}, outputs, times);
    respond({&request}, outputs, values);
  } catch (const std::exception& error) {  // whatever the model raised is this request's answer
    refuse(request.triton, failure(error));
  }
}

void Instance::together(const std::vector<Request*>& group, Times& times) {
  std::vector<const Io*> all;
  for (const Io& io : model_->config.outputs) all.push_back(&io);
  std::vector<ort::Value> values;
  try {
    values = run(group, all, times);
  } catch (const std::exception&) {  // which request it was shows when each runs alone
    for (Request* request : group) alone(*request, times);
    return;
  }
  respond(group, all, values);
}

std::vector<const Io*> Instance::wanted(const Request& request) const {
  uint32_t count = 0;
  check(TRITONBACKEND_RequestOutputCount(request.triton, &count));
  std::vector<bool> asked(model_->config.outputs.size(), count == 0 || count == model_->config.outputs.size());
  for (uint32_t i = 0; i < count && count < asked.size(); ++i) {
    const char* name = nullptr;
    check(TRITONBACKEND_RequestOutputName(request.triton, i, &name));
    for (size_t place = 0; place < asked.size(); ++place)
      if (model_->config.outputs[place].name == name) asked[place] = true;
  }
  std::vector<const Io*> found;
  for (size_t place = 0; place < asked.size(); ++place)
    if (asked[place]) found.push_back(&model_->config.outputs[place]);
  return found;
}

std::vector<ort::Value> Instance::run(const std::vector<Request*>& group, const std::vector<const Io*>& outputs,
                                      Times& times) {
  std::vector<const char*> input_names, output_names;
  std::vector<ort::Value> inputs;
  for (size_t place = 0; place < group[0]->tensors.size(); ++place) {
    input_names.push_back(group[0]->tensors[place].io->name.c_str());
    inputs.push_back(input(group, place, buffers_[place]));
  }
  for (const Io* io : outputs) output_names.push_back(io->name.c_str());
  if (times.compute_began == times.began) times.compute_began = now_ns();
  watched_.begin();
  std::vector<ort::Value> values;
  try {
    values = session_->run(*options_, input_names, inputs, output_names);
  } catch (const Failure&) {
    times.compute_ended = now_ns();
    if (watched_.end())
      throw Failure("it took longer than " + std::to_string(static_cast<int>(watched_.longest_s())) + " s and was ended");
    throw;
  }
  watched_.end();
  times.compute_ended = now_ns();
  int64_t rows = 0;
  for (const Request* request : group) rows += request->rows;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::vector<int64_t> shape = model_->scalars.count(outputs[i]->name) ? outputs[i]->full_dims()
                                                                               : ort::shape_of(values[i]).dims;
    if (outputs[i]->fits(shape) && (!outputs[i]->batched || shape[0] == rows)) continue;
    std::vector<int64_t> expected = outputs[i]->full_dims();
    if (outputs[i]->batched) expected[0] = rows;
    throw Failure("output '" + outputs[i]->name + "' has shape " + shape_text(shape) + ", expected " + shape_text(expected));
  }
  return values;
}

ort::Value Instance::input(const std::vector<Request*>& group, size_t place, std::vector<char>& joined) const {
  const Tensor& first = group[0]->tensors[place];
  std::vector<int64_t> shape = first.shape;
  uint64_t bytes = 0;
  for (const Request* request : group) bytes += request->tensors[place].bytes;
  if (group.size() > 1) {
    shape[0] = 0;
    for (const Request* request : group) shape[0] += request->rows;
  }
  if (model_->scalars.count(first.io->name)) shape.clear();
  const void* data = nullptr;
  joined.clear();
  for (const Request* request : group) {
    const Tensor& tensor = request->tensors[place];
    for (uint32_t i = 0; i < tensor.buffers; ++i) {
      const void* part = nullptr;
      uint64_t size = 0;
      TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
      int64_t device = 0;
      check(TRITONBACKEND_InputBuffer(tensor.input, i, &part, &size, &memory, &device));
      if (size == bytes && reinterpret_cast<uintptr_t>(part) % kAligned == 0) {
        data = part;
        continue;
      }
      joined.reserve(bytes);
      joined.insert(joined.end(), static_cast<const char*>(part), static_cast<const char*>(part) + size);
    }
  }
  if (data == nullptr) data = joined.data();
  if (first.type == TRITONSERVER_TYPE_BYTES)
    return ort::string_tensor(shape, read_texts(first.io->name, static_cast<const char*>(data), bytes, product(shape)));
  return ort::tensor(first.type, shape, data, bytes);
}

void Instance::respond(const std::vector<Request*>& group, const std::vector<const Io*>& outputs,
                       const std::vector<ort::Value>& values) const {
  std::vector<ort::Shape> shapes;
  std::vector<std::vector<std::string>> texts(outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    shapes.push_back(ort::shape_of(values[i]));
    if (model_->scalars.count(outputs[i]->name)) shapes[i].dims = outputs[i]->dims;
    if (shapes[i].type == TRITONSERVER_TYPE_BYTES) texts[i] = ort::texts_of(values[i]);
  }
  int64_t row = 0;
  for (Request* request : group) {
    TRITONBACKEND_Response* response = nullptr;
    check(TRITONBACKEND_ResponseNew(&response, request->triton));
    try {
      const std::vector<const Io*> asked = group.size() == 1 ? outputs : wanted(*request);
      for (size_t i = 0; i < outputs.size(); ++i) {
        if (std::find(asked.begin(), asked.end(), outputs[i]) == asked.end()) continue;
        std::vector<int64_t> shape = shapes[i].dims;
        const size_t per_row = outputs[i]->batched ? static_cast<size_t>(product(shape, 1)) : 0;
        if (outputs[i]->batched) shape[0] = request->rows;
        const size_t from = static_cast<size_t>(row) * per_row, size = static_cast<size_t>(product(shape));
        TRITONBACKEND_Output* output = nullptr;
        check(TRITONBACKEND_ResponseOutput(response, &output, outputs[i]->name.c_str(), shapes[i].type, shape.data(),
                                           static_cast<uint32_t>(shape.size())));
        const bool is_text = shapes[i].type == TRITONSERVER_TYPE_BYTES;
        const size_t bytes = is_text ? written_bytes(texts[i], from, size) : size * width(shapes[i].type);
        void* buffer = nullptr;
        TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
        int64_t device = 0;
        check(TRITONBACKEND_OutputBuffer(output, &buffer, bytes, &memory, &device));
        if (memory == TRITONSERVER_MEMORY_GPU) throw Failure("its answer is wanted in a GPU's memory");
        if (is_text)
          write_texts(texts[i], from, size, static_cast<char*>(buffer));
        else if (bytes > 0)
          std::memcpy(buffer, static_cast<const char*>(ort::data_of(values[i])) + from * width(shapes[i].type), bytes);
      }
      send(response, nullptr);
      request->answered = true;
    } catch (const std::exception& error) {
      const Failure told = failure(error);
      send(response, &told);
    }
    row += request->rows;
  }
}

Failure Instance::failure(const std::exception& error) const {
  const auto* own = dynamic_cast<const Failure*>(&error);
  if (own != nullptr && own->code == TRITONSERVER_ERROR_INVALID_ARG)
    return Failure(own->code, std::string(own->what()) + " for model '" + model_->config.name + "'");
  return Failure("model '" + model_->config.name + "' failed: " + plain(error.what()));
}

}  // namespace modelport
