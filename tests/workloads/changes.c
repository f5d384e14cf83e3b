// As changes.go: waits for a moment, then executes the first of the programs that its arguments name, with
// the others and itself for arguments.

#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  usleep(now.tv_nsec / 1000 % 10 * 1000);
  char *self = arguments[0];
  for (int index = 1; index < count; index++) {
    arguments[index - 1] = arguments[index];
  }
  arguments[count - 1] = self;
  execv(arguments[0], arguments);
  perror("execv");
  return 1;
}
