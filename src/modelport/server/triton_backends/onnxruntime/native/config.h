// What the backend reads from a model's configuration, and the cores that it may use. `modelport_config.py` reads the
// same for the backends in Python; both refuse the same configurations, in the same words.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "json.h"

namespace modelport {

struct Io {
  std::string name;
  std::string type;           // such as TYPE_FP32
  std::vector<int64_t> dims;  // of one sample, as the model sees it
  bool batched = false;       // a batch axis comes before `dims`
  bool optional = false;      // a request may leave it out
  std::string pad;            // bytes of the element that may fill it up; empty where none may

  std::vector<int64_t> full_dims() const;  // with -1 in front for the batch axis
  bool fits(const std::vector<int64_t>& shape) const;
};

struct Config {
  std::string name;
  std::string version;
  std::string file;
  int max_batch_size = 0;
  std::vector<Io> inputs, outputs;
  std::map<std::string, std::string> parameters;
  Json optimization;
  std::vector<std::string> op_libraries;
  int instances = 0;
  bool queue_policy = false;  // Triton's queue is bounded by the configuration itself
  bool gpu_only = false;      // the configuration itself says KIND_GPU; Triton makes that of KIND_AUTO where it sees one

  bool batched() const { return max_batch_size > 0; }
  bool fills_up() const;  // inputs of different sizes may go into one run
  std::optional<bool> flag(const std::string& key) const;
  int number(const std::string& key) const;  // 0 where it is not there
  int threads() const;  // for one instance, so that all of them together use no more than the cores
};

// Throws Failure for a configuration that asks for something that this backend does not serve.
Config read_config(const std::string& name, const std::string& version, const std::string& folder, const Json& raw);

// Cores that this process may use: its affinity, and the CPU quota of its control group.
int cores();

std::string shape_text(const std::vector<int64_t>& shape);  // such as [2, 3]

}  // namespace modelport
