// Preloaded into Triton's server, so that no answer over HTTP is lost.
//
// A thread that has an answer gives it to the HTTP thread that holds the connection: libevhtp sends a message of 17 bytes
// through a socket of 278 such messages that does not block, and drops the answer when the socket is full. The caller
// then waits until its own deadline. Here the sender waits until there is room again.
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr char kName[] = "libmodelport_send.so";
constexpr size_t kMessage = 17;       // a byte and two pointers; nothing else in the server sends so many
constexpr int64_t kLongestMs = 10000;  // an HTTP thread that took nothing for so long hangs
constexpr int kSockets = 4096;

std::atomic<bool> hangs[kSockets];  // by descriptor: nobody waits for it again before it took something

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

bool is_local(int socket) {
  int domain = 0;
  socklen_t size = sizeof domain;
  return getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

// What the server starts shall not look for this library, which is on the server's path alone.
__attribute__((constructor)) void forget() {
  const char* preloaded = getenv("LD_PRELOAD");
  constexpr size_t kLength = sizeof kName - 1;
  if (preloaded == nullptr || strncmp(preloaded, kName, kLength) != 0) return;
  if (preloaded[kLength] == ':')
    setenv("LD_PRELOAD", preloaded + kLength + 1, 1);
  else if (preloaded[kLength] == '\0')
    unsetenv("LD_PRELOAD");
}

ssize_t once(int socket, const void* data, size_t size, int flags) {
  return sendto(socket, data, size, flags, nullptr, 0);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ssize_t send(int socket, const void* data, size_t size, int flags) {
  ssize_t sent = once(socket, data, size, flags);
  if (size != kMessage || socket < 0 || socket >= kSockets) return sent;
  if (sent >= 0) {
    if (hangs[socket].load(std::memory_order_relaxed)) hangs[socket] = false;
    return sent;
  }
  const int reason = errno;
  if (reason != EAGAIN || hangs[socket] || !is_local(socket)) {
    errno = reason;
    return sent;
  }
  const int64_t until = now_ms() + kLongestMs;
  for (int64_t left = kLongestMs; left > 0 && sent < 0 && errno == EAGAIN; left = until - now_ms()) {
    pollfd room{socket, POLLOUT, 0};
    poll(&room, 1, static_cast<int>(left));
    sent = once(socket, data, size, flags);
  }
  if (sent < 0 && errno == EAGAIN) hangs[socket] = true;
  return sent;
}
