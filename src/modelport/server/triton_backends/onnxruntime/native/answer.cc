#include "answer.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>

#include "failure.h"
#include "inputs.h"
#include "pad.h"
#include "texts.h"

namespace modelport {

namespace {

constexpr size_t kKeptBytes = 64 << 20;                 // a larger buffer is given back after the run

// The model was ended: it would take as long again for each request alone.
struct Ended : Failure {
  using Failure::Failure;
};

// Ends a request with its only response.
void send(TRITONBACKEND_Response* response, TRITONSERVER_Error* error) {
  ignore(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
  ignore(error);
}

}  // namespace

struct Instance::Request {
  TRITONBACKEND_Request* triton = nullptr;
  std::vector<Tensor> tensors;  // in the order of the configuration; an optional one may be missing
  int64_t rows = 0;             // 0 without a batch axis
  bool ended = false;           // has its response
  bool answered = false;        // and that is no error
  uint64_t compute_began = 0, compute_ended = 0;
};

struct Instance::Output {
  const Io* io;
  ort::Value value;
  TRITONSERVER_DataType type;
  std::vector<int64_t> shape;  // as Triton's configuration has it
  ort::Texts texts;
  const char* data = nullptr;
};

Instance::Instance(TRITONBACKEND_ModelInstance* triton, std::shared_ptr<Model> model)
    : triton_(triton),
      model_(std::move(model)),
      opened_(model_->session()),
      options_(model_->run_options()),
      line_(model_->config,
            [this] { return waiting_requests(model_->server, model_->config.name, model_->config.version); }),
      watched_(model_->config, *options_),
      buffers_(model_->config.inputs.size()) {
  for (const Io& io : model_->config.outputs) all_outputs_.push_back(&io);
}

void Instance::execute(TRITONBACKEND_Request** handles, uint32_t count) {
  const double began = now_s();
  const uint64_t began_ns = now_ns();
  runs_.clear();
  std::vector<Request> requests(count);
  for (uint32_t i = 0; i < count; ++i) {
    requests[i].triton = handles[i];
    requests[i].compute_began = requests[i].compute_ended = began_ns;
  }
  if (line_.refuses(static_cast<int>(count), began)) {
    const Failure overloaded(TRITONSERVER_ERROR_UNAVAILABLE,
                             "model '" + model_->config.name + "' is overloaded: more requests wait than it answers in time");
    for (Request& request : requests) refuse(request, overloaded);
  } else {
    try {
      answer(requests);
    } catch (const std::exception& error) {  // such as memory that ran out
      for (Request& request : requests)
        if (!request.ended) refuse(request, error);
    }
    line_.answered(static_cast<int>(count), began, now_s());
  }
  report(requests, began_ns);
  for (const Request& request : requests)
    ignore(TRITONBACKEND_RequestRelease(request.triton, TRITONSERVER_REQUEST_RELEASE_ALL));
  for (std::vector<char>& buffer : buffers_)
    if (buffer.capacity() > kKeptBytes) std::vector<char>().swap(buffer);
}

void Instance::answer(std::vector<Request>& requests) {
  for (const Group& group : groups(requests)) {
    if (group.size() == 1)
      alone(*group[0]);
    else
      together(group);
  }
}

// Tells Triton how long each request took, and each run.
void Instance::report(const std::vector<Request>& requests, uint64_t began) const {
  const uint64_t ended = now_ns();
  for (const Request& request : requests)
    ignore(TRITONBACKEND_ModelInstanceReportStatistics(triton_, request.triton, request.answered, began,
                                                       request.compute_began, request.compute_ended, ended));
  for (const Run& run : runs_)
    ignore(TRITONBACKEND_ModelInstanceReportBatchStatistics(triton_, run.rows, began, run.began, run.ended, ended));
}

void Instance::read(Request& request) const {
  const std::vector<Io>& ios = model_->config.inputs;
  uint32_t count = 0;
  bool rows_known = false;
  check(TRITONBACKEND_RequestInputCount(request.triton, &count));
  request.tensors.resize(ios.size());
  for (uint32_t i = 0; i < count; ++i) {
    Tensor tensor;
    const char* name = nullptr;
    check(TRITONBACKEND_RequestInputByIndex(request.triton, i, &tensor.input));
    check(TRITONBACKEND_InputProperties(tensor.input, &name, &tensor.type, &tensor.shape, &tensor.rank, &tensor.bytes,
                                        &tensor.buffers));
    const auto io = std::find_if(ios.begin(), ios.end(), [&](const Io& known) { return known.name == name; });
    if (io == ios.end()) continue;
    tensor.io = &*io;
    tensor.check_size();
    if (io->batched && (tensor.rank == 0 || (rows_known && tensor.shape[0] != request.rows)))
      throw Failure(TRITONSERVER_ERROR_INVALID_ARG, "input '" + io->name + "' has another batch axis than the first");
    if (io->batched) request.rows = tensor.shape[0];
    rows_known = true;
    request.tensors[static_cast<size_t>(io - ios.begin())] = tensor;
  }
  const auto missing = [](const Tensor& tensor) { return tensor.io == nullptr; };
  request.tensors.erase(std::remove_if(request.tensors.begin(), request.tensors.end(), missing), request.tensors.end());
}

std::vector<Instance::Group> Instance::groups(std::vector<Request>& requests) const {
  std::vector<Group> found;
  std::map<std::vector<int64_t>, size_t> known;  // sample shapes -> place in `found`
  for (Request& request : requests) {
    try {
      read(request);
    } catch (const std::exception& error) {
      refuse(request, error);
      continue;
    }
    if (requests.size() == 1 || !model_->config.batched()) {
      found.push_back({&request});
      continue;
    }
    std::vector<int64_t> key;
    for (const Tensor& tensor : request.tensors) {
      key.push_back(static_cast<int64_t>(tensor.rank));
      for (uint32_t i = 1; i < tensor.rank; ++i) key.push_back(tensor.fills_up(i) ? -1 : tensor.shape[i]);
    }
    const auto [place, is_new] = known.emplace(std::move(key), found.size());
    if (is_new) found.emplace_back();
    found[place->second].push_back(&request);
  }
  if (!model_->config.fills_up()) return found;
  std::vector<Group> even_ones;
  for (Group& group : found)
    for (Group& part : even(std::move(group))) even_ones.push_back(std::move(part));
  return even_ones;
}

// Parts of a group of requests, the largest first, in which filling up makes at most `kFilledUp` times as much of them.
std::vector<Instance::Group> Instance::even(Group group) const {
  const auto bytes = [](const Request* request) {
    uint64_t sum = 0;
    for (const Tensor& tensor : request->tensors) sum += tensor.bytes;
    return static_cast<double>(sum);
  };
  std::stable_sort(group.begin(), group.end(), [&](Request* a, Request* b) { return bytes(a) > bytes(b); });
  std::vector<Group> found;
  double given = 0;
  for (Request* request : group) {
    given += bytes(request);
    if (!found.empty()) {
      found.back().push_back(request);
      double filled = 0;
      for (size_t place = 0; place < request->tensors.size(); ++place) filled += joined_bytes(tensors(found.back(), place));
      if (filled <= kFilledUp * given) continue;
      found.back().pop_back();
    }
    found.push_back({request});
    given = bytes(request);
  }
  return found;
}

// One input of a group's requests.
Tensors Instance::tensors(const Group& group, size_t place) const {
  Tensors found;
  for (const Request* request : group) found.push_back(&request->tensors[place]);
  return found;
}

void Instance::alone(Request& request) {
  try {
    std::vector<Output> outputs = run({&request}, wanted(request));
    respond({&request}, outputs);
  } catch (const std::exception& error) {  // whatever the model raised is this request's answer
    if (!request.ended) refuse(request, error);
  }
}

void Instance::together(const Group& group) {
  std::vector<Output> outputs;
  try {
    outputs = run(group, all_outputs_);
  } catch (const Ended& error) {
    for (Request* request : group) refuse(*request, error);
    return;
  } catch (const std::exception&) {  // which request it was shows when each runs alone
    for (Request* request : group) alone(*request);
    return;
  }
  respond(group, outputs);
}

std::vector<const Io*> Instance::wanted(const Request& request) const {
  uint32_t count = 0;
  check(TRITONBACKEND_RequestOutputCount(request.triton, &count));
  if (count == 0 || count == all_outputs_.size()) return all_outputs_;
  std::vector<const Io*> found;
  for (uint32_t i = 0; i < count; ++i) {
    const char* name = nullptr;
    check(TRITONBACKEND_RequestOutputName(request.triton, i, &name));
    for (const Io* io : all_outputs_)
      if (io->name == name) found.push_back(io);
  }
  return found;
}

std::vector<Instance::Output> Instance::run(const Group& group, const std::vector<const Io*>& wanted) {
  std::vector<const char*> input_names, output_names;
  std::vector<ort::Value> inputs;
  for (size_t place = 0; place < group[0]->tensors.size(); ++place) {
    const std::string& name = group[0]->tensors[place].io->name;
    input_names.push_back(name.c_str());
    inputs.push_back(joined(tensors(group, place), opened_->scalars.count(name) > 0, buffers_[place]));
  }
  for (const Io* io : wanted) output_names.push_back(io->name.c_str());
  std::vector<ort::Value> values = call(input_names, inputs, output_names);
  int64_t rows = 0;
  for (Request* request : group) {
    rows += request->rows;
    request->compute_began = runs_.back().began;
    request->compute_ended = runs_.back().ended;
  }
  runs_.back().rows = static_cast<uint64_t>(std::max<int64_t>(1, rows));
  std::vector<Output> outputs;
  for (size_t i = 0; i < wanted.size(); ++i) outputs.push_back(output(*wanted[i], std::move(values[i]), rows));
  return outputs;
}

std::vector<ort::Value> Instance::call(const std::vector<const char*>& input_names,
                                       const std::vector<ort::Value>& inputs,
                                       const std::vector<const char*>& output_names) {
  const uint64_t began = now_ns();
  watched_.begin();
  try {
    std::vector<ort::Value> values = opened_->session.run(*options_, input_names, inputs, output_names);
    watched_.end();
    runs_.push_back({began, now_ns(), 0});
    return values;
  } catch (const std::exception&) {
    if (watched_.end())
      throw Ended("it took longer than " + std::to_string(static_cast<int>(watched_.longest_s())) + " s and was ended");
    throw;
  }
}

// What a run gave for one output. Throws Failure unless it is what the configuration says.
Instance::Output Instance::output(const Io& io, ort::Value value, int64_t rows) const {
  ort::Shape shape = ort::shape_of(value);
  if (opened_->scalars.count(io.name)) shape.dims = io.dims;
  if (!io.fits(shape.dims) || (io.batched && shape.dims[0] != rows)) {
    std::vector<int64_t> expected = io.full_dims();
    if (io.batched) expected[0] = rows;
    throw Failure("output '" + io.name + "' has shape " + shape_text(shape.dims) + ", expected " + shape_text(expected));
  }
  Output output{&io, std::move(value), shape.type, std::move(shape.dims), {}};
  if (output.type == TRITONSERVER_TYPE_BYTES)
    output.texts = ort::texts_of(output.value, static_cast<size_t>(product(output.shape)));
  else
    output.data = static_cast<const char*>(ort::data_of(output.value));
  return output;
}

void Instance::respond(const Group& group, std::vector<Output>& outputs) const {
  int64_t row = 0;
  for (Request* request : group) {
    TRITONBACKEND_Response* response = nullptr;
    try {
      check(TRITONBACKEND_ResponseNew(&response, request->triton));
      const std::vector<const Io*> asked = wanted(*request);
      for (const Output& output : outputs)
        if (std::find(asked.begin(), asked.end(), output.io) != asked.end()) write(response, output, row, request->rows);
      send(response, nullptr);
      request->ended = request->answered = true;
    } catch (const std::exception& error) {
      refuse(*request, error, response);
    }
    row += request->rows;
  }
}

// Writes the rows of one request into its response.
void Instance::write(TRITONBACKEND_Response* response, const Output& output, int64_t row, int64_t rows) const {
  std::vector<int64_t> shape = output.shape;
  size_t from = 0;
  if (output.io->batched) {
    from = static_cast<size_t>(row * product(shape, 1));
    shape[0] = rows;
  }
  const auto count = static_cast<size_t>(product(shape));
  TRITONBACKEND_Output* made = nullptr;
  check(TRITONBACKEND_ResponseOutput(response, &made, output.io->name.c_str(), output.type, shape.data(),
                                     static_cast<uint32_t>(shape.size())));
  const bool is_text = output.type == TRITONSERVER_TYPE_BYTES;
  const size_t bytes = is_text ? written_bytes(output.texts, from, count) : count * width(output.type);
  void* buffer = nullptr;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  int64_t device = 0;
  check(TRITONBACKEND_OutputBuffer(made, &buffer, bytes, &memory, &device));
  if (memory == TRITONSERVER_MEMORY_GPU) throw Failure("its answer is wanted in a GPU's memory");
  if (is_text)
    write_texts(output.texts, from, count, static_cast<char*>(buffer));
  else if (bytes > 0)
    std::memcpy(buffer, output.data + from * width(output.type), bytes);
}

// Ends a request with an error; `response` is its response where there is one already.
void Instance::refuse(Request& request, const std::exception& error, TRITONBACKEND_Response* response) const {
  request.ended = true;
  if (response == nullptr) {
    if (TRITONSERVER_Error* failed = TRITONBACKEND_ResponseNew(&response, request.triton)) {
      ignore(failed);
      return;
    }
  }
  TRITONSERVER_ErrorCode code = TRITONSERVER_ERROR_INTERNAL;
  std::string text = plain(error.what());
  const auto* own = dynamic_cast<const Failure*>(&error);
  if (own != nullptr) code = own->code;
  if (code == TRITONSERVER_ERROR_INVALID_ARG)
    text = error.what() + (" for model '" + model_->config.name + "'");
  else if (code == TRITONSERVER_ERROR_INTERNAL)
    text = "model '" + model_->config.name + "' failed: " + text;
  send(response, TRITONSERVER_ErrorNew(code, text.c_str()));
}

}  // namespace modelport
