#include "config.h"

#include <sched.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "failure.h"

namespace fs = std::filesystem;

namespace modelport {

namespace {

constexpr char kUsualFile[] = "model.onnx";

void check_served(const Json& raw) {
  for (const char* key : {"batch_input", "batch_output"})
    if (raw[key]) throw Failure(std::string("'") + key + "' is not served by the embedded server; use the container");
  for (const auto& [key, value] : raw.members())
    if (key == "sequence_batching")
      throw Failure("'sequence_batching' is not served by the embedded server; use the container");
  if (raw["model_transaction_policy"]["decoupled"])
    throw Failure("decoupled models need a backend of their own; remove 'model_transaction_policy'");
  for (const Json& io : raw["input"].items())
    if (io["allow_ragged_batch"])
      throw Failure("input '" + io["name"].text() + "': 'allow_ragged_batch' is not served by the embedded server");
}

Io read_io(const Json& raw, bool batched) {
  Io io;
  io.name = raw["name"].text();
  io.type = raw["data_type"].text();
  io.batched = batched;
  io.optional = static_cast<bool>(raw["optional"]);
  bool reshaped = false;
  for (const auto& [key, value] : raw.members()) reshaped |= key == "reshape";
  for (const Json& dim : (reshaped ? raw["reshape"]["shape"] : raw["dims"]).items()) io.dims.push_back(dim.number());
  return io;
}

std::string artefact(const fs::path& folder, const std::string& given) {
  const fs::path name = given.empty() ? kUsualFile : given;
  if (name.is_absolute() || std::find(name.begin(), name.end(), "..") != name.end())
    throw Failure("default_model_filename '" + name.string() + "' is outside the version's folder");
  fs::path path = folder / name;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) path /= kUsualFile;
  if (!fs::is_regular_file(path, ignored))
    throw Failure("the file '" + name.string() + "' is missing in version " + folder.filename().string());
  return path.string();
}

// The CPU quotas, in cores, of a control group and those above it.
void quotas(std::vector<double>& limits, const fs::path& root, const std::string& group,
            const std::vector<std::string>& files) {
  for (fs::path folder = root / fs::path(group).relative_path();; folder = folder.parent_path()) {
    std::string quota;
    double period = 0;
    std::stringstream words;
    for (const std::string& file : files) words << std::ifstream(folder / file).rdbuf() << ' ';
    if (words >> quota >> period && quota != "max" && quota != "-1" && period > 0)
      limits.push_back(std::stod(quota) / period);
    if (folder == root || !folder.has_relative_path()) return;
  }
}

}  // namespace

std::vector<int64_t> Io::full_dims() const {
  std::vector<int64_t> full = dims;
  if (batched) full.insert(full.begin(), -1);
  return full;
}

bool Io::fits(const std::vector<int64_t>& shape) const {
  const std::vector<int64_t> full = full_dims();
  return std::equal(full.begin(), full.end(), shape.begin(), shape.end(),
                    [](int64_t want, int64_t got) { return want == -1 || want == got; });
}

std::optional<bool> Config::flag(const std::string& key) const {
  const auto found = parameters.find(key);
  if (found == parameters.end()) return std::nullopt;
  std::string word = found->second;
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  if (word == "true" || word == "on" || word == "1") return true;
  if (word == "false" || word == "off" || word == "0") return false;
  throw Failure("parameter '" + key + "' is '" + found->second + "'; it must be one of true, on, 1, false, off, 0");
}

int Config::number(const std::string& key) const {
  const auto found = parameters.find(key);
  if (found == parameters.end()) return 0;
  const char* blanks = " \t\r\n";
  const size_t from = found->second.find_first_not_of(blanks), to = found->second.find_last_not_of(blanks);
  std::string digits = from == std::string::npos ? "" : found->second.substr(from, to - from + 1);
  const std::string whole = digits;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) digits.erase(0, 1);
  const bool right = !digits.empty() && digits.size() <= 9 &&
                     std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c); });
  if (!right) throw Failure("parameter '" + key + "' is '" + found->second + "'; it must be a whole number");
  return std::stoi(whole);
}

int Config::threads() const { return std::max(1, cores() / std::max(1, instances)); }

Config read_config(const std::string& name, const std::string& version, const std::string& folder, const Json& raw) {
  check_served(raw);
  Config config;
  config.name = name;
  config.version = version;
  config.max_batch_size = static_cast<int>(raw["max_batch_size"].number());
  config.file = artefact(fs::path(folder) / version, raw["default_model_filename"].text());
  for (const Json& io : raw["input"].items()) config.inputs.push_back(read_io(io, config.batched()));
  for (const Json& io : raw["output"].items()) config.outputs.push_back(read_io(io, config.batched()));
  for (const auto& [key, value] : raw["parameters"].members())
    config.parameters[key] = value["string_value"].text();
  config.optimization = raw["optimization"];
  for (const Json& library : raw["model_operations"]["op_library_filename"].items())
    config.op_libraries.push_back(library.text());
  for (const Json& group : raw["instance_group"].items())
    config.instances += static_cast<int>(std::max(1LL, group["count"].number(1)));
  config.queue_policy = static_cast<bool>(raw["dynamic_batching"]["default_queue_policy"]["max_queue_size"]);
  return config;
}

int cores() {
  std::vector<double> limits;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) limits.push_back(CPU_COUNT(&set));
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (line.compare(0, first, "0") == 0)
      quotas(limits, "/sys/fs/cgroup", path, {"cpu.max"});
    else if (controllers.find(",cpu,") != std::string::npos)
      quotas(limits, "/sys/fs/cgroup/cpu", path, {"cpu.cfs_quota_us", "cpu.cfs_period_us"});
  }
  return limits.empty() ? 1 : std::max(1, static_cast<int>(*std::min_element(limits.begin(), limits.end())));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t dim : shape) text += (text.empty() ? "" : ", ") + std::to_string(dim);
  return "[" + text + "]";
}

}  // namespace modelport
