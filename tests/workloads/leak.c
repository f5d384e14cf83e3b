// Memory over time. `grow KIB` keeps that much more every tenth of a second; `saw KIB STEPS` does the
// same and gives all of it back after so many steps, like a heap that is collected; `read PATH` reads
// a file again and again; `hold MIB` takes that much and keeps it.

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "control.h"

enum { STEP_MS = 100, MOST_STEPS = 1000, PAGE = 4096 };

NAMED char *keep_forever(uint64_t bytes) {
    char *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) {
        return NULL;
    }
    for (uint64_t at = 0; at < bytes; at += PAGE) {
        ((volatile char *)area)[at] = 1;
    }
    return area;
}

NAMED void read_again(const char *path) {
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) {
        exit(1);
    }
    // What others have read is charged to them, and need not be read again.
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    char *area = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (area == MAP_FAILED) {
        exit(1);
    }
    char line[16];
    while (next_command(line, sizeof line, 0) == 0) {
        for (off_t at = 0; at < status.st_size; at += PAGE) {
            sink += (uint64_t)((volatile char *)area)[at];
        }
    }
    exit(0);
}

int main(void) {
    static char *held[MOST_STEPS];
    char line[4096];
    uint64_t bytes = 0;
    int steps = 0, taken = 0, more;
    answer("ready");
    while ((more = next_command(line, sizeof line, STEP_MS)) >= 0) {
        if (more > 0) {
            answer("started");
        }
        if (more > 0 && sscanf(line, "saw %lu %d", &bytes, &steps) == 2) {
            bytes <<= 10;
        } else if (more > 0 && sscanf(line, "grow %lu", &bytes) == 1) {
            bytes <<= 10;
            steps = 0;
        } else if (more > 0 && strncmp(line, "hold ", 5) == 0) {
            keep_forever(strtoul(line + 5, NULL, 10) << 20);
        } else if (more > 0 && strncmp(line, "read ", 5) == 0) {
            read_again(line + 5);
        }
        if (bytes == 0) {
            continue;
        }
        if (steps == 0) {
            keep_forever(bytes);
            continue;
        }
        if (taken == steps || taken == MOST_STEPS) {
            while (taken > 0) {
                munmap(held[--taken], bytes);
            }
        }
        held[taken++] = keep_forever(bytes);
    }
    return 0;
}
