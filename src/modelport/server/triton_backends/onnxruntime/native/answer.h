// Answers the requests of one `execute` call with as few runs of the model as possible.
#pragma once

#include <memory>
#include <vector>

#include "failure.h"
#include "line.h"
#include "model.h"
#include "watch.h"

namespace modelport {

// One instance of a model. Triton calls it from one thread at a time.
class Instance {
 public:
  Instance(TRITONBACKEND_ModelInstance* triton, std::shared_ptr<Model> model);

  // Answers and releases all requests. Requests of equal sample shapes are joined along the batch axis; a single one is
  // not copied. When a joined run fails, each request runs alone, so that only the one that makes the model fail gets
  // the error. When the line of those that wait is too long, the requests are refused unrun.
  void execute(TRITONBACKEND_Request** requests, uint32_t count);

 private:
  struct Request;
  struct Times;

  void read(Request& request) const;
  std::vector<std::vector<Request*>> groups(std::vector<Request>& requests) const;
  void alone(Request& request, Times& times);
  void together(const std::vector<Request*>& group, Times& times);
  std::vector<ort::Value> run(const std::vector<Request*>& group, const std::vector<const Io*>& wanted, Times& times);
  ort::Value input(const std::vector<Request*>& group, size_t place, std::vector<char>& joined) const;
  void respond(const std::vector<Request*>& group, const std::vector<const Io*>& outputs,
               const std::vector<ort::Value>& values) const;
  std::vector<const Io*> wanted(const Request& request) const;
  Failure failure(const std::exception& error) const;

  TRITONBACKEND_ModelInstance* const triton_;
  const std::shared_ptr<Model> model_;
  const std::shared_ptr<ort::Session> session_;
  const std::unique_ptr<ort::RunOptions> options_;
  Line line_;
  Watched watched_;
  std::vector<std::vector<char>> buffers_;  // for joined inputs, kept from run to run
};

}  // namespace modelport
