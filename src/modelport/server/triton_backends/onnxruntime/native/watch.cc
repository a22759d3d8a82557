#include "watch.h"

#include <chrono>
#include <condition_variable>
#include <set>
#include <thread>

namespace modelport {

namespace {
constexpr int kLongestRunS = 120;
constexpr auto kLook = std::chrono::milliseconds(500);
}  // namespace

// The thread that looks at all runs. It starts with the first instance.
class Watch {
 public:
  static Watch& only() {
    static Watch watch;
    return watch;
  }

  void add(Watched* run) {
    const std::lock_guard<std::mutex> hold(turn_);
    runs_.insert(run);
    if (!thread_.joinable()) {
      ending_ = false;
      thread_ = std::thread([this] { look(); });
    }
  }

  void remove(Watched* run) {
    const std::lock_guard<std::mutex> hold(turn_);
    runs_.erase(run);
  }

  ~Watch() { stop(); }  // a thread that still runs would end the process

  void stop() {
    {
      const std::lock_guard<std::mutex> hold(turn_);
      ending_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

 private:
  void look() {
    std::unique_lock<std::mutex> hold(turn_);
    while (!wake_.wait_for(hold, kLook, [this] { return ending_; }))
      for (Watched* run : runs_) run->look(now_s());
  }

  std::mutex turn_;
  std::condition_variable wake_;
  std::set<Watched*> runs_;
  std::thread thread_;
  bool ending_ = false;
};

Watched::Watched(const Config& config, ort::RunOptions& options)
    : options_(options),
      longest_s_(config.parameters.count(kLongestRun) ? config.number(kLongestRun) : kLongestRunS) {
  if (longest_s_ > 0) Watch::only().add(this);
}

Watched::~Watched() {
  if (longest_s_ > 0) Watch::only().remove(this);
}

void Watched::begin() {
  const std::lock_guard<std::mutex> hold(turn_);
  began_ = now_s();
}

bool Watched::end() {
  const std::lock_guard<std::mutex> hold(turn_);
  began_ = 0;
  if (!stopped_) return false;
  stopped_ = false;
  options_.go_on();
  return true;
}

void Watched::look(double now) {
  const std::lock_guard<std::mutex> hold(turn_);
  if (began_ == 0 || stopped_ || now - began_ < longest_s_) return;
  stopped_ = true;
  options_.stop();
}

void stop_watching() { Watch::only().stop(); }

double now_s() { return static_cast<double>(now_ns()) * 1e-9; }

uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

}  // namespace modelport
