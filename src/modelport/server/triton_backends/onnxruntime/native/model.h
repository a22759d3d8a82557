// A model as its configuration wants it: opened, and compared with the configuration.
#pragma once

#include <memory>
#include <mutex>
#include <set>

#include "config.h"
#include "runtime.h"

namespace modelport {

class Model {
 public:
  // Throws Failure for what this backend does not serve.
  Model(TRITONSERVER_Server* server, Config config);

  // The session of a new instance. Instances that run on one thread each share one, and its memory.
  // Throws Failure where the file is no model, or not the configuration's.
  std::shared_ptr<ort::Session> session();

  // Options for the runs of one instance.
  std::unique_ptr<ort::RunOptions> run_options() const;

  TRITONSERVER_Server* const server;
  const Config config;
  std::set<std::string> scalars;  // inputs and outputs that have no axis in the model, and one in the configuration

 private:
  std::shared_ptr<ort::Session> open();
  void compare(const ort::Session& session);

  std::mutex turn_;
  std::weak_ptr<ort::Session> shared_;
  int intra_ = 1, inter_ = 1;
};

}  // namespace modelport
