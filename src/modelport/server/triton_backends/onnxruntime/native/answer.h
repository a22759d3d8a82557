// Answers the requests of one `execute` call with as few runs of the model as possible.
#pragma once

#include <memory>
#include <vector>

#include "failure.h"
#include "inputs.h"
#include "line.h"
#include "model.h"
#include "watch.h"

namespace modelport {

// One instance of a model. Triton calls it from one thread at a time.
class Instance {
 public:
  Instance(TRITONBACKEND_ModelInstance* triton, std::shared_ptr<Model> model);

  // Answers and releases all requests, each exactly once. Requests of equal sample shapes are joined along the batch
  // axis, those of others too where the shorter may be filled up; a single one is not copied where its data are aligned.
  // When a joined run fails, each request runs alone, so that only the one that makes the model fail gets the error. When
  // the line of those that wait is too long, the requests are refused unrun. Throws only before the first answer: then
  // all requests are still Triton's.
  void execute(TRITONBACKEND_Request** handles, uint32_t count);

 private:
  struct Request;
  struct Output;
  struct Run {
    uint64_t began, ended, rows;
  };
  using Group = std::vector<Request*>;

  void answer(std::vector<Request>& requests);
  void read(Request& request) const;
  std::vector<Group> groups(std::vector<Request>& requests) const;
  std::vector<Group> even(Group group) const;
  Tensors tensors(const Group& group, size_t place) const;
  void alone(Request& request);
  void together(const Group& group);
  std::vector<Output> run(const Group& group, const std::vector<const Io*>& wanted);
  std::vector<ort::Value> call(const std::vector<const char*>& input_names, const std::vector<ort::Value>& inputs,
                               const std::vector<const char*>& output_names);
  Output output(const Io& io, ort::Value value, int64_t rows) const;
  void respond(const Group& group, std::vector<Output>& outputs) const;
  void write(TRITONBACKEND_Response* response, const Output& output, int64_t row, int64_t rows) const;
  std::vector<const Io*> wanted(const Request& request) const;
  void refuse(Request& request, const std::exception& error, TRITONBACKEND_Response* response = nullptr) const;
  void report(const std::vector<Request>& requests, uint64_t began) const;

  TRITONBACKEND_ModelInstance* const triton_;
  const std::shared_ptr<Model> model_;
  const std::shared_ptr<const Opened> opened_;
  const std::unique_ptr<ort::RunOptions> options_;
  Line line_;
  Watched watched_;
  std::vector<const Io*> all_outputs_;
  std::vector<std::vector<char>> buffers_;  // for joined inputs, kept from run to run
  std::vector<Run> runs_;                   // of this call
};

}  // namespace modelport
