#include "config.h"

#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>

#include "failure.h"
#include "pad.h"

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

// The kind of a file, as in S_IFREG; 0 where there is none.
mode_t kind(const std::string& path) {
  struct stat found {};
  return stat(path.c_str(), &found) == 0 ? found.st_mode & S_IFMT : 0;
}

std::string artefact(const std::string& folder, const std::string& given) {
  const std::string name = given.empty() ? kUsualFile : given;
  if (name[0] == '/' || ("/" + name + "/").find("/../") != std::string::npos)
    throw Failure("default_model_filename '" + name + "' is outside the version's folder");
  std::string path = folder + "/" + name;
  if (kind(path) == S_IFDIR) path = path + "/" + kUsualFile;
  if (kind(path) != S_IFREG)
    throw Failure("the file '" + name + "' is missing in version " + folder.substr(folder.rfind('/') + 1));
  return path;
}

// The parts of a file's text between separators; none where the file cannot be read.
std::vector<std::string> parts(const std::string& path, const char* separators) {
  std::vector<std::string> found;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (file == nullptr) return found;
  bool inside = false;
  for (int c = std::fgetc(file.get()); c != EOF; c = std::fgetc(file.get())) {
    const bool blank = std::strchr(separators, c) != nullptr;
    if (!blank && !inside) found.emplace_back();
    if (!blank) found.back() += static_cast<char>(c);
    inside = !blank;
  }
  return found;
}

// A whole number; `missing` for any other text.
long long number_in(const std::string& text, long long missing) {
  long long value = missing;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  return read.ec == std::errc() && read.ptr == text.data() + text.size() ? value : missing;
}

bool varies(const Io& io) { return std::count(io.dims.begin(), io.dims.end(), -1) > 0; }

// Notes with what each input may be filled up, as the version's manifest has it from its export. An output whose size
// varies would get another one.
void read_pads(Config& config, const std::string& manifest) {
  const std::vector<std::string> text = parts(manifest, "");
  if (text.empty() || !config.batched() || std::any_of(config.outputs.begin(), config.outputs.end(), varies)) return;
  try {
    const Json content = Json::read(text[0]);
    for (const Json& tensor : content["spec"]["inputs"].items())
      for (Io& io : config.inputs)
        if (io.name == tensor["name"].text() && varies(io) && !tensor["pad"].text().empty())
          io.pad = pad_element(io.type, tensor["pad"]);
  } catch (const Failure&) {  // a damaged manifest is for others to tell; without it nothing is filled up
  }
}

// The CPU quotas, in cores, of a control group and those above it.
void quotas(std::vector<double>& limits, const std::string& root, const std::string& group,
            const std::vector<std::string>& files) {
  std::string folder = root + (group == "/" ? "" : group);
  while (true) {
    std::vector<std::string> found;
    for (const std::string& file : files)
      for (std::string& word : parts(folder + "/" + file, " \n")) found.push_back(std::move(word));
    const long long quota = found.size() == 2 ? number_in(found[0], 0) : 0;  // "max" and -1 are none
    const long long period = found.size() == 2 ? number_in(found[1], 0) : 0;
    if (quota > 0 && period > 0) limits.push_back(static_cast<double>(quota) / static_cast<double>(period));
    if (folder.size() <= root.size()) return;
    folder.erase(folder.rfind('/'));
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
  std::string text = from == std::string::npos ? "" : found->second.substr(from, to - from + 1);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.erase(0, 1);
  constexpr long long kNone = 1000000000;
  const long long value = number_in(text, kNone);
  if (value >= kNone || value <= -kNone)
    throw Failure("parameter '" + key + "' is '" + found->second + "'; it must be a whole number");
  return static_cast<int>(value);
}

bool Config::fills_up() const {
  return std::any_of(inputs.begin(), inputs.end(), [](const Io& io) { return !io.pad.empty(); });
}

int Config::threads() const { return std::max(1, cores() / std::max(1, instances)); }

Config read_config(const std::string& name, const std::string& version, const std::string& folder, const Json& raw) {
  check_served(raw);
  Config config;
  config.name = name;
  config.version = version;
  config.max_batch_size = static_cast<int>(raw["max_batch_size"].number());
  config.file = artefact(folder + "/" + version, raw["default_model_filename"].text());
  for (const Json& io : raw["input"].items()) config.inputs.push_back(read_io(io, config.batched()));
  for (const Json& io : raw["output"].items()) config.outputs.push_back(read_io(io, config.batched()));
  for (const auto& [key, value] : raw["parameters"].members())
    config.parameters[key] = value["string_value"].text();
  config.optimization = raw["optimization"];
  for (const Json& library : raw["model_operations"]["op_library_filename"].items())
    config.op_libraries.push_back(library.text());
  for (const Json& group : raw["instance_group"].items())
    config.instances += static_cast<int>(std::max(1LL, group["count"].number(1)) *
                                         std::max(1LL, static_cast<long long>(group["gpus"].items().size())));
  for (const std::string& line : parts(folder + "/config.pbtxt", "\n"))
    config.gpu_only |= line.substr(0, line.find('#')).find("KIND_GPU") != std::string::npos;
  config.queue_policy = static_cast<bool>(raw["dynamic_batching"]["default_queue_policy"]["max_queue_size"]);
  read_pads(config, folder + "/" + version + "/manifest.json");
  return config;
}

int cores() {
  std::vector<double> limits;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) limits.push_back(CPU_COUNT(&set));
  for (const std::string& line : parts("/proc/self/cgroup", "\n")) {  // such as 4:cpu,cpuacct:/some/group
    const size_t first = line.find(':'), second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",", path = line.substr(second + 1);
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
