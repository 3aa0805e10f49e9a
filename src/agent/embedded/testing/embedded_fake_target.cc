// SPDX-License-Identifier: Apache-2.0

// A fake target for testing how the agent supervises its target: `embedded_fake_target -r SOCKET
// [--fail STATUS] [--ignore-term]` listens on the socket, replacing any file at that path, until
// SIGTERM, or exits immediately with STATUS.

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

int main(int argc, char** argv) {
  const char* path = nullptr;
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    if (argument == "-r") path = argv[++i];
    if (argument == "--fail") return static_cast<int>(std::strtol(argv[++i], nullptr, 10));
    if (argument == "--ignore-term") signal(SIGTERM, SIG_IGN);
  }
  std::printf("listening on %s, session %d\n", path, getsid(0));
  std::fflush(stdout);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, path, sizeof(name.sun_path) - 1);
  unlink(path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0 || listen(fd, 64) != 0)
    return 99;
  while (true) {
    int client = accept(fd, nullptr, nullptr);
    if (client >= 0) close(client);
  }
}
